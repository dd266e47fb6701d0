//! Who a process is, and how it makes sure of who the others are: mutual TLS, with one certificate for each process.
//!
//! A certificate names cluster, role and name of its process in two ways: as `spiffe://CLUSTER/handover/ROLE/NAME`, which
//! servers read of their clients, and as the DNS name `ROLE.CLUSTER.handover`, which clients demand of the server that
//! they call, whatever its address. So nobody can pose as what it is not: not a gateway as a membership server to a daemon
//! that looks for one, nor as a daemon to a membership server.
//!
//! Files that change are read again for the connections that come after; those that are open stay. What cannot be
//! read is told, and what was read before stays in force.

mod identity;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};
use tonic::transport::{Certificate, ClientTlsConfig};

pub use identity::{Identity, Role};

use crate::settings::Invalid;
use crate::watched::Watched;

/// The table `tls`: all files or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsFiles {
    /// The certificates of the authorities that may say who somebody is.
    pub ca: Option<PathBuf>,
    /// The certificate of this process, and those between it and an authority.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

/// The flags of the table `tls`.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub struct TlsArgs {
    /// Authorities that say who others are: certificates in a PEM file. With this and the next two, all connections are TLS
    #[arg(long = "tls-ca", id = "tls_ca", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The certificate of this process
    #[arg(long = "tls-cert", id = "tls_cert", value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Its private key
    #[arg(long = "tls-key", id = "tls_key", value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// What the files of a process have to be for it to begin.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Only some of the files are given.
    #[error("all of `ca`, `cert` and `key` are needed, or none")]
    Incomplete,
    /// Likewise, of somebody who need not show one.
    #[error("a certificate needs its key, and a key its certificate")]
    Half,
    /// A file cannot be read, or has something else in it.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The files do not fit each other.
    #[error("certificate, key and authorities do not fit: {0}")]
    Mismatch(String),
    /// The certificate is somebody else's.
    #[error("the certificate in {} is for {theirs}, and this is {own}", path.display())]
    Stranger {
        /// The file.
        path: PathBuf,
        /// Whose certificate it is.
        theirs: String,
        /// Who this process is.
        own: Identity,
    },
}

impl TlsFiles {
    /// Whether these settings, and what is listened on, can be meant.
    ///
    /// # Errors
    /// If only some files are given, or if others than processes of this computer could connect without TLS, and
    /// `insecure` does not say that this is meant.
    pub fn check(&self, listen: std::net::SocketAddr, insecure: bool) -> Result<(), Invalid> {
        let files = self.files();
        let files = files.map_err(|error| Invalid { key: "tls", reason: error.to_string() })?;
        if files.is_none() && !listen.ip().is_loopback() && !insecure {
            let reason = "others than this computer could connect, and nothing says who they are: set `tls`, or \
                          `insecure` if the network is trusted";
            return Err(Invalid { key: "listen", reason: reason.to_owned() });
        }
        Ok(())
    }

    /// What is in the files, if any are given, for the process `own`.
    ///
    /// # Errors
    /// If they cannot be read, do not fit each other, or are those of another process.
    pub fn open(&self, own: Identity) -> Result<Option<Tls>, TlsError> {
        self.files()?.map(|files| Tls::new(files, own)).transpose()
    }

    /// What is in the files, if any are given, for whomever the certificate is for. Authorities alone will do for somebody who
    /// only calls, without being known by a certificate, processes of `cluster`.
    ///
    /// # Errors
    /// If they cannot be read, do not fit each other, or are not those of a process.
    pub fn open_as_named(&self, cluster: Name) -> Result<Option<Tls>, TlsError> {
        if let TlsFiles { ca: Some(ca), cert: None, key: None } = self.clone() {
            return Tls::anonymous(ca, cluster).map(Some);
        }
        let Some(files) = self.files()? else { return Ok(None) };
        let own = certificates(&files.cert)?.first().and_then(Identity::of);
        let own = own.ok_or_else(|| wrong(&files.cert, "it is nobody's in particular"))?;
        Tls::new(files, own).map(Some)
    }

    fn files(&self) -> Result<Option<Files>, TlsError> {
        match self.clone() {
            TlsFiles { ca: None, cert: None, key: None } => Ok(None),
            TlsFiles { ca: Some(ca), cert: Some(cert), key: Some(key) } => Ok(Some(Files { ca, cert, key })),
            TlsFiles { .. } => Err(TlsError::Incomplete),
        }
    }
}

impl Tls {
    fn new(files: Files, own: Identity) -> Result<Tls, TlsError> {
        let paths = vec![files.ca.clone(), files.cert.clone(), files.key.clone()];
        let loaded = Watched::new("certificates", paths, move || files.load(own))?;
        Ok(Tls(Arc::new(Inner { cluster: own.cluster, loaded })))
    }

    fn anonymous(ca: PathBuf, cluster: Name) -> Result<Tls, TlsError> {
        let load = move |ca: &Path| Ok(Loaded { server: None, client: client(ca)? });
        let loaded = Watched::new("certificates", vec![ca.clone()], move || load(&ca))?;
        Ok(Tls(Arc::new(Inner { cluster, loaded })))
    }
}

/// The certificate, the key and the authorities of a process, as they are now.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cluster: Name,
    loaded: Watched<Loaded, TlsError>,
}

#[derive(Debug)]
struct Files {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

/// What connections are made with.
#[derive(Clone, Debug)]
struct Loaded {
    /// Nothing, for somebody who only calls.
    server: Option<Arc<ServerConfig>>,
    client: ClientTlsConfig,
}

impl Tls {
    /// The cluster whose processes are known here.
    pub(crate) fn cluster(&self) -> Name {
        self.0.cluster
    }

    /// With what a connection is taken.
    ///
    /// # Errors
    /// If there is no certificate to show.
    pub(crate) fn server(&self) -> std::io::Result<Arc<ServerConfig>> {
        let nothing_to_show = || std::io::Error::other("there is no certificate of this process");
        self.0.loaded.current().server.ok_or_else(nothing_to_show)
    }

    /// With what a process of this role is called.
    pub(crate) fn client(&self, role: Role) -> ClientTlsConfig {
        self.0.loaded.current().client.domain_name(role.dns_name(self.cluster()))
    }
}

impl Files {
    fn load(&self, own: Identity) -> Result<Loaded, TlsError> {
        let chain = certificates(&self.cert)?;
        let theirs = chain.first().and_then(Identity::of);
        if theirs != Some(own) {
            let theirs = theirs.map_or("nobody in particular".to_owned(), |it| it.to_string());
            return Err(TlsError::Stranger { path: self.cert.clone(), theirs, own });
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| wrong(&self.key, error))?;
        let mut authorities = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            authorities.add(certificate).map_err(|error| wrong(&self.ca, error))?;
        }
        let server =
            server(authorities, chain, key).map_err(|error| TlsError::Mismatch(error.to_string()))?;
        let identity = tonic::transport::Identity::from_pem(text(&self.cert)?, text(&self.key)?);
        Ok(Loaded { server: Some(Arc::new(server)), client: client(&self.ca)?.identity(identity) })
    }
}

/// Whom somebody believes who calls others than processes of a cluster: the authorities in `ca`, or those that the operating
/// system knows. It shows the certificate and the key in the files `own`, if there are any.
///
/// # Errors
/// If a file cannot be read, or has something else in it.
pub(crate) fn outward(ca: Option<&Path>, own: Option<(&Path, &Path)>) -> Result<ClientTlsConfig, TlsError> {
    let config = match ca {
        Some(ca) => client(ca)?,
        None => ClientTlsConfig::new().with_enabled_roots(),
    };
    let Some((certificate, key)) = own else { return Ok(config) };
    certificates(certificate)?;
    PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error))?;
    Ok(config.identity(tonic::transport::Identity::from_pem(text(certificate)?, text(key)?)))
}

/// Whom somebody believes who calls.
fn client(ca: &Path) -> Result<ClientTlsConfig, TlsError> {
    certificates(ca)?;
    Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(text(ca)?)))
}

fn text(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| wrong(path, error))
}

/// Clients may come without a certificate: what they may do then is for [`Access`] to say. Nobody takes up an old
/// session, which would not look at certificates again.
fn server(
    authorities: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, Box<dyn std::error::Error>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(authorities.into(), Arc::clone(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = read.map_err(|error| wrong(path, error))?;
    if all.is_empty() {
        return Err(wrong(path, "there is no certificate in it"));
    }
    Ok(all)
}

fn wrong(path: &Path, reason: impl ToString) -> TlsError {
    TlsError::File { path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_than_this_computer_come_in_with_certificates_or_where_it_is_said() {
        let (here, everywhere) = ("127.0.0.1:0".parse().unwrap(), "0.0.0.0:0".parse().unwrap());
        let none = TlsFiles::default();
        let file = |name: &str| Some(PathBuf::from(name));
        let all = TlsFiles { ca: file("ca"), cert: file("cert"), key: file("key") };
        let some = TlsFiles { ca: file("ca"), ..TlsFiles::default() };
        for (files, listen, insecure, wrong) in [
            (&none, here, false, None),
            (&none, everywhere, false, Some("listen")),
            (&none, everywhere, true, None),
            (&all, everywhere, false, None),
            (&some, here, false, Some("tls")),
            (&some, everywhere, true, Some("tls")),
        ] {
            let checked = files.check(listen, insecure);
            assert_eq!(checked.as_ref().err().map(|it| it.key), wrong, "{checked:?}");
        }
    }
}
