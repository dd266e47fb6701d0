//! Who a client is: somebody who shows a token with each call, as `authorization: Bearer TOKEN`.
//!
//! A token is either one of a list, of which only digests are kept ([`tokens`]), or a JSON Web Token that an issuer has
//! signed ([`jwt`]). Either says who somebody is and of what [`Rank`]; what ranks may do is for
//! [`Access`](crate::access::Access) to say. Files that change are read again, as certificates are.

mod jwt;
pub mod tokens;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tonic::codegen::http::HeaderMap;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::metadata::AsciiMetadataValue;

use self::jwt::{Issuer, Keys};
use self::tokens::Tokens;
use crate::settings::Invalid;
use crate::watched::Watched;

/// A longer token is nobody's.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// What somebody may do: each rank may do what those before it may.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Rank {
    /// Has sessions of its own.
    #[default]
    Viewer,
    /// Sees everything, and says where sessions are served and by whom.
    Operator,
    /// Changes what is served, and by what rules.
    Admin,
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rank::Viewer => "viewer",
            Rank::Operator => "operator",
            Rank::Admin => "admin",
        })
    }
}

/// Who calls, as a token says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// `token:NAME` or `jwt:SUBJECT`.
    pub name: Arc<str>,
    /// What it may do.
    pub rank: Rank,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.rank)
    }
}

/// The table `auth`: without any of it, nobody is asked for a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthFiles {
    /// A list of tokens, as their digests.
    pub tokens: Option<PathBuf>,
    /// The public keys of an issuer of JSON Web Tokens: a JWKS file.
    pub jwks: Option<PathBuf>,
    /// The issuer: what `iss` has to be.
    pub issuer: Option<String>,
    /// For whom tokens have to be: what `aud` has to be.
    pub audience: Option<String>,
}

/// The flags of the table `auth`.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub struct AuthArgs {
    /// Ask clients and operators for tokens: those whose digests are in this file, as `handover token` puts them there
    #[arg(long = "auth-tokens", id = "auth_tokens", value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// Ask clients and operators for tokens: JSON Web Tokens signed with one of the keys in this JWKS file
    #[arg(long = "auth-jwks", id = "auth_jwks", value_name = "FILE")]
    pub jwks: Option<PathBuf>,
    /// The issuer of JSON Web Tokens
    #[arg(long = "auth-issuer", id = "auth_issuer", value_name = "TEXT")]
    pub issuer: Option<String>,
    /// For whom JSON Web Tokens have to be
    #[arg(long = "auth-audience", id = "auth_audience", value_name = "TEXT")]
    pub audience: Option<String>,
}

/// A file is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct AuthError {
    path: PathBuf,
    reason: String,
}

impl AuthError {
    fn new(path: &Path, reason: impl ToString) -> AuthError {
        AuthError { path: path.to_owned(), reason: reason.to_string() }
    }
}

impl AuthFiles {
    /// Whether these settings can be meant.
    ///
    /// # Errors
    /// If it is not said whose JSON Web Tokens are good, and for whom.
    pub fn check(&self) -> Result<(), Invalid> {
        match (&self.jwks, &self.issuer, &self.audience) {
            (None, None, None) | (Some(_), Some(_), Some(_)) => Ok(()),
            _ => Err(Invalid {
                key: "auth",
                reason: "all of `jwks`, `issuer` and `audience` are needed, or none".to_owned(),
            }),
        }
    }

    /// What is in the files, if any are given.
    ///
    /// # Errors
    /// If one cannot be read, or has something else in it.
    pub fn open(&self) -> Result<Option<Auth>, AuthError> {
        let tokens = self.tokens.clone().map(|path| {
            Watched::new("tokens", vec![path.clone()], move || Tokens::read(&path).map(Arc::new))
        });
        let issuer = match self.clone() {
            AuthFiles { jwks: Some(jwks), issuer: Some(issuer), audience: Some(audience), .. } => {
                let keys = Watched::new("keys of tokens", vec![jwks.clone()], move || {
                    Keys::read(&jwks).map(Arc::new)
                });
                Some(keys.map(|keys| (keys, Issuer { issuer, audience }))).transpose()?
            }
            AuthFiles { .. } => None,
        };
        let auth = Inner { tokens: tokens.transpose()?, issuer };
        let asked = auth.tokens.is_some() || auth.issuer.is_some();
        Ok(asked.then(|| Auth(Arc::new(auth))))
    }
}

/// A token as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer(AsciiMetadataValue);

impl Bearer {
    /// That token, if it can be one.
    pub fn new(token: &str) -> Option<Bearer> {
        let mut header = AsciiMetadataValue::try_from(format!("Bearer {token}")).ok()?;
        header.set_sensitive(true);
        Some(Bearer(header))
    }

    /// Shows it with a request.
    pub fn show<T>(&self, request: &mut tonic::Request<T>) {
        request.metadata_mut().insert("authorization", self.0.clone());
    }
}

/// Who is known by its token.
#[derive(Clone, Debug)]
pub struct Auth(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tokens: Option<Watched<Arc<Tokens>, AuthError>>,
    issuer: Option<(Watched<Arc<Keys>, AuthError>, Issuer)>,
}

/// Why a token is of no use. Whoever shows it is told no more than that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadToken {
    #[error("the authorization is not of the form `Bearer TOKEN`")]
    Form,
    #[error("the token is not good here")]
    Unknown,
    #[error("the token is not good here: {0}")]
    Jwt(String),
}

impl Auth {
    /// Who sends these headers; nobody in particular, if there is no token among them.
    pub(crate) fn who(&self, headers: &HeaderMap) -> Result<Option<Principal>, BadToken> {
        let mut shown = headers.get_all(AUTHORIZATION).iter();
        let Some(header) = shown.next() else { return Ok(None) };
        let header = header.to_str().map_err(|_| BadToken::Form)?;
        let (scheme, token) = header.split_once(' ').ok_or(BadToken::Form)?;
        let one = shown.next().is_none() && token.len() <= TOKEN_BYTES_MAX;
        if !one || !scheme.eq_ignore_ascii_case("bearer") {
            return Err(BadToken::Form);
        }
        if let Some(principal) = self.0.tokens.as_ref().and_then(|tokens| tokens.current().find(token)) {
            return Ok(Some(principal));
        }
        match &self.0.issuer {
            Some((keys, issuer)) => keys.current().verify(token, issuer).map(Some),
            None => Err(BadToken::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_web_tokens_need_an_issuer_and_an_audience() {
        let some = |text: &str| Some(text.to_owned());
        let jwks = Some(PathBuf::from("keys.json"));
        let none = AuthFiles::default();
        assert!(none.check().is_ok());
        assert!(AuthFiles { tokens: Some(PathBuf::from("t")), ..none.clone() }.check().is_ok());
        assert!(AuthFiles { jwks: jwks.clone(), ..none.clone() }.check().is_err());
        assert!(AuthFiles { issuer: some("i"), audience: some("a"), ..none.clone() }.check().is_err());
        assert!(AuthFiles { jwks, issuer: some("i"), audience: some("a"), ..none }.check().is_ok());
    }

    #[test]
    fn a_header_that_is_no_token_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let token = tokens::Token::draw();
        std::fs::write(&path, token.entry("alice".parse().unwrap(), Rank::Operator)).unwrap();
        let auth = AuthFiles { tokens: Some(path), ..AuthFiles::default() }.open().unwrap().unwrap();
        let who = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            auth.who(&headers)
        };
        let alice = Principal { name: "token:alice".into(), rank: Rank::Operator };
        assert_eq!(who(&[]), Ok(None));
        assert_eq!(who(&[&format!("Bearer {token}")]), Ok(Some(alice.clone())));
        assert_eq!(who(&[&format!("bearer {token}")]), Ok(Some(alice)));
        for wrong in [
            &[&*format!("Basic {token}")][..],
            &[&*token.to_string()],
            &[&*format!("Bearer {token}"), &*format!("Bearer {token}")],
            &[&*format!("Bearer {}", "a".repeat(TOKEN_BYTES_MAX + 1))],
        ] {
            assert_eq!(who(wrong), Err(BadToken::Form), "{wrong:?}");
        }
        for wrong in ["Bearer ", "Bearer 0", &format!("Bearer {token}0")] {
            assert_eq!(who(&[wrong]), Err(BadToken::Unknown), "{wrong}");
        }
    }
}
