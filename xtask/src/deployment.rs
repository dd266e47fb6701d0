//! What is shipped to run a cluster with, tried on the program: every argument and every setting in the manifests and in the
//! files of docker-compose is one that it knows.

use crate::steps::{self, install, run};
use crate::{engine, observability};

/// The schemas of Kubernetes.
const SCHEMAS: &str = "kubernetes-validate==1.37.0";
const YAML: &str = "PyYAML==6.0.3";

/// Checks all of it. Installs what that needs, where it is missing.
pub fn check() -> anyhow::Result<()> {
    observability::check_rules()?;
    if !engine::has_compose() {
        install(&["docker-compose"])?;
    }
    let python = steps::python(&[SCHEMAS, YAML])?;
    run(python().arg("deploy/check.py").env("HANDOVER_BIN", steps::handover_path()?))
}
