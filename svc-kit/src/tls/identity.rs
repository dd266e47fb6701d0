//! Who a process is, as its certificate says.

use std::fmt;
use std::str::FromStr;

use model::Name;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a process is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A membership server.
    Membership,
    /// The group communication daemon of a machine.
    Machine,
    /// A content server.
    Server,
    /// A gateway.
    Gateway,
    /// Somebody who administers the cluster.
    Operator,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 5] = [Role::Membership, Role::Machine, Role::Server, Role::Gateway, Role::Operator];

    /// How it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Membership => "membership",
            Role::Machine => "machine",
            Role::Server => "server",
            Role::Gateway => "gateway",
            Role::Operator => "operator",
        }
    }

    /// The DNS name in the certificates of all processes of this role in the cluster.
    pub fn dns_name(self, cluster: Name) -> String {
        format!("{self}.{cluster}.handover")
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its cluster.
    pub cluster: Name,
    /// What it is there for.
    pub role: Role,
    /// Its name.
    pub name: Name,
}

impl Identity {
    /// Who the certificate is for; nobody, if it does not say so in one way.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Identity> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let mut said = names.value.general_names.iter().filter_map(|name| {
            let GeneralName::URI(uri) = name else { return None };
            uri.parse().ok()
        });
        let identity = said.next()?;
        said.next().is_none().then_some(identity)
    }
}

/// As in a certificate.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/handover/{}/{}", self.cluster, self.role, self.name)
    }
}

/// The text is not that of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an identity is spiffe://CLUSTER/handover/ROLE/NAME")]
pub struct IdentityError;

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Identity, IdentityError> {
        let parts: Vec<&str> = text.strip_prefix("spiffe://").ok_or(IdentityError)?.split('/').collect();
        let [cluster, "handover", role, name] = parts[..] else { return Err(IdentityError) };
        let name_of = |text: &str| text.parse().map_err(|_| IdentityError);
        let role = Role::ALL.into_iter().find(|it| it.as_str() == role).ok_or(IdentityError)?;
        Ok(Identity { cluster: name_of(cluster)?, role, name: name_of(name)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_it_is_written_and_nothing_else_is_one() {
        for role in Role::ALL {
            let identity = Identity { cluster: "c".parse().unwrap(), role, name: "n-1".parse().unwrap() };
            assert_eq!(identity.to_string().parse(), Ok(identity));
        }
        for text in [
            "",
            "https://c/handover/server/n",
            "spiffe://c/handover/server",
            "spiffe://c/handover/server/n/m",
            "spiffe://c/other/server/n",
            "spiffe://c/handover/king/n",
            "spiffe://C/handover/server/n",
            "spiffe://c/handover/server/",
        ] {
            assert_eq!(text.parse::<Identity>(), Err(IdentityError), "{text}");
        }
    }
}
