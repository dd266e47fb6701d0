//! An authority for clusters that have none: it says who their processes are, in certificates.
//!
//! Its directory has the authority's certificate and key, `ca.pem` and `ca.key`, and those of each process, such as
//! `server-1.pem` and `server-1.key`. Processes need no more of the authority than its certificate.

use std::fmt;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use model::Name;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use svc_kit::tls::{Identity, Role, TlsFiles};
use time::{Duration, OffsetDateTime};

/// How long an authority is one, in days.
const AUTHORITY_DAYS: i64 = 3650;

/// What a certificate is to say.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Where clients who do not know of roles find the process: names or addresses.
    pub hosts: Vec<String>,
    /// How long it is good, in days from now.
    pub days: i64,
}

impl Default for Terms {
    /// A process on this computer, for a year.
    fn default() -> Terms {
        Terms { hosts: ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec(), days: 365 }
    }
}

/// An authority, in its directory.
pub struct Authority {
    dir: PathBuf,
    cluster: Name,
    issuer: Issuer<'static, KeyPair>,
}

/// Without its key.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("dir", &self.dir)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// The authority in `dir` for `cluster`: the one that is there, or a new one.
    ///
    /// # Errors
    /// If the directory cannot be written, or what is there is not an authority's.
    pub fn open(dir: &Path, cluster: Name) -> anyhow::Result<Authority> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
        if !certificate.exists() {
            let pair = KeyPair::generate()?;
            let mut params = params(AUTHORITY_DAYS);
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params.distinguished_name.push(DnType::CommonName, format!("authority of {cluster}"));
            write(&key, &pair.serialize_pem())?;
            write(&certificate, &params.self_signed(&pair)?.pem())?;
        }
        let read =
            |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
        let issuer = Issuer::from_ca_cert_pem(&read(&certificate)?, KeyPair::from_pem(&read(&key)?)?)
            .with_context(|| format!("{} is not an authority's", dir.display()))?;
        Ok(Authority { dir: dir.to_owned(), cluster, issuer })
    }

    /// Certificate and key for the process `name` of that role.
    ///
    /// # Errors
    /// If a host is neither, or the files cannot be written.
    pub fn issue(&self, role: Role, name: Name, terms: &Terms) -> anyhow::Result<TlsFiles> {
        let identity = Identity { cluster: self.cluster, role, name };
        let mut params = params(terms.days);
        params.distinguished_name.push(DnType::CommonName, name.to_string());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = vec![
            SanType::URI(identity.to_string().try_into()?),
            SanType::DnsName(role.dns_name(self.cluster).try_into()?),
        ];
        for host in &terms.hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(host.as_str().try_into()?),
            });
        }
        let pair = KeyPair::generate()?;
        let certificate = params.signed_by(&pair, &self.issuer)?;
        let files = self.files(name);
        for (path, text) in [(&files.key, pair.serialize_pem()), (&files.cert, certificate.pem())] {
            write(path.as_deref().unwrap_or(&self.dir), &text)?;
        }
        Ok(files)
    }

    /// Where the files of a process are.
    pub fn files(&self, name: Name) -> TlsFiles {
        let file = |name: String| Some(self.dir.join(name));
        TlsFiles {
            ca: file("ca.pem".to_owned()),
            cert: file(format!("{name}.pem")),
            key: file(format!("{name}.key")),
        }
    }
}

/// What a process called `name` is there for, as its name begins.
///
/// # Errors
/// If the name begins with no role.
pub fn role_of(name: Name) -> anyhow::Result<Role> {
    let begins = |role: &Role| {
        let rest = name.as_str().strip_prefix(role.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    match Role::ALL.into_iter().find(begins) {
        Some(role) => Ok(role),
        None => bail!(
            "{name} does not begin with a role, as in membership-1, machine-1, server-1, gateway-1 or operator"
        ),
    }
}

/// Good for so many days, and since two days ago: clocks differ.
fn params(days: i64) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.not_before = now - Duration::days(2);
    params.not_after = now.saturating_add(Duration::days(days));
    params
}

/// Keys are for nobody else to read. A process that has the file open goes on with what was there.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let draft = path.with_extension("draft");
    let written = || {
        let mut file =
            fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&draft, path)
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}
