//! What is shipped to run a cluster with, tried on the program: every argument and every setting in the manifests and in the
//! files of docker-compose is one that it knows.

use crate::steps::{self, run};
use crate::{compose, observability};

/// The schemas of Kubernetes.
const SCHEMAS: &str = "kubernetes-validate==1.37.0";
const YAML: &str = "PyYAML==6.0.3";

/// Checks all of it. Installs what that needs, where it is missing.
pub fn check() -> anyhow::Result<()> {
    observability::check_rules()?;
    compose::provide()?;
    let python = steps::python(&[SCHEMAS, YAML])?;
    let handover = steps::handover_path()?;
    run(python().arg("deploy/check.py").env("HANDOVER_BIN", &handover))?;
    run(python().arg("deploy/check.py").env("HANDOVER_BIN", handover).env("PATH", compose::new_first()?))
}
