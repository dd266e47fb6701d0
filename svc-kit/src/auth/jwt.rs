//! JSON Web Tokens (RFC 7519) of one issuer, whose public keys are in a JWKS file (RFC 7517). `sub` says who somebody is, and
//! `handover_rank` of what rank: a viewer, if it is not said. `exp` has to be there.

use std::path::Path;

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use super::{AuthError, BadToken, Principal, Rank};

/// The longest subject.
const SUBJECT_BYTES_MAX: usize = 256;

/// How far clocks may be apart, in seconds.
const LEEWAY_SECONDS: u64 = 30;

/// Whose tokens are good, and for whom they have to be.
#[derive(Clone, Debug)]
pub(super) struct Issuer {
    pub(super) issuer: String,
    pub(super) audience: String,
}

/// The keys that an issuer signs with.
pub(super) struct Keys(Vec<Key>);

struct Key {
    id: String,
    key: DecodingKey,
    /// What may be done with it, where that is said.
    algorithm: Option<Algorithm>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(default, rename = "handover_rank")]
    rank: Rank,
}

impl Keys {
    pub(super) fn read(path: &Path) -> Result<Keys, AuthError> {
        let text = std::fs::read_to_string(path).map_err(|error| AuthError::new(path, error))?;
        let set: JwkSet = serde_json::from_str(&text).map_err(|error| AuthError::new(path, error))?;
        let keys: Result<Vec<Key>, String> =
            set.keys.iter().filter_map(|jwk| Key::of(jwk).transpose()).collect();
        let keys = keys.map_err(|reason| AuthError::new(path, reason))?;
        if keys.is_empty() {
            return Err(AuthError::new(path, "there is no key in it that signatures can be checked with"));
        }
        Ok(Keys(keys))
    }

    /// Whose token it is.
    pub(super) fn verify(&self, token: &str, issuer: &Issuer) -> Result<Principal, BadToken> {
        let bad = |error: jsonwebtoken::errors::Error| BadToken::Jwt(error.to_string());
        let header = jsonwebtoken::decode_header(token).map_err(|_| BadToken::Unknown)?;
        let key = header.kid.and_then(|id| self.0.iter().find(|key| key.id == id));
        let key = key.ok_or_else(|| BadToken::Jwt("no such key".to_owned()))?;
        if key.algorithm.is_some_and(|algorithm| algorithm != header.alg) {
            return Err(BadToken::Jwt("the key is for another algorithm".to_owned()));
        }
        let mut rules = Validation::new(header.alg);
        rules.leeway = LEEWAY_SECONDS;
        rules.validate_nbf = true;
        rules.set_issuer(&[&issuer.issuer]);
        rules.set_audience(&[&issuer.audience]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let claims: Claims = jsonwebtoken::decode(token, &key.key, &rules).map_err(bad)?.claims;
        if claims.sub.is_empty() || claims.sub.len() > SUBJECT_BYTES_MAX {
            return Err(BadToken::Jwt(format!("sub is not 1 to {SUBJECT_BYTES_MAX} bytes long")));
        }
        Ok(Principal { name: format!("jwt:{}", claims.sub).into(), rank: claims.rank })
    }
}

impl Key {
    /// A secret that signs as well as it checks is not a public key, and is refused. An issuer may have other keys beside
    /// those that it signs with: they are left out, as RFC 7517 has it in section 5.
    fn of(jwk: &Jwk) -> Result<Option<Key>, String> {
        let id = jwk.common.key_id.as_deref().unwrap_or_default();
        if let AlgorithmParameters::OctetKey(_) = jwk.algorithm {
            return Err(format!("key {id:?} is a secret, not a public key"));
        }
        match Key::of_signatures(jwk) {
            Ok(key) => Ok(Some(key)),
            Err(reason) => {
                tracing::info!(id, reason, "a key of tokens is left out");
                Ok(None)
            }
        }
    }

    fn of_signatures(jwk: &Jwk) -> Result<Key, String> {
        let common = &jwk.common;
        let id = common.key_id.clone().ok_or("it has no `kid`")?;
        let is_of_use = common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature);
        let may_verify = common.key_operations.as_ref().is_none_or(|it| it.contains(&KeyOperations::Verify));
        if !is_of_use || !may_verify {
            return Err("it is not for signatures".to_owned());
        }
        let algorithm = common.key_algorithm.map(Algorithm::try_from).transpose();
        let algorithm = algorithm.map_err(|_| "its algorithm is not one of signatures that are known")?;
        let key = DecodingKey::from_jwk(jwk).map_err(|error| error.to_string())?;
        Ok(Key { id, key, algorithm })
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header};
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
    use serde_json::{Value, json};

    use super::*;

    /// An issuer, and its key as others know it.
    struct Signer {
        key: EncodingKey,
        jwk: Value,
    }

    impl Signer {
        fn new() -> Signer {
            let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
            let key = EncodingKey::from_ec_der(&pair.serialize_der());
            let mut jwk =
                serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap()).unwrap();
            jwk["kid"] = json!("key-1");
            Signer { key, jwk }
        }

        fn sign(&self, claims: &Value) -> String {
            let header = Header { kid: Some("key-1".to_owned()), ..Header::new(Algorithm::ES256) };
            jsonwebtoken::encode(&header, claims, &self.key).unwrap()
        }
    }

    fn keys(set: &[&Value]) -> Result<Keys, AuthError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        std::fs::write(&path, json!({ "keys": set }).to_string()).unwrap();
        Keys::read(&path)
    }

    fn issuer() -> Issuer {
        Issuer { issuer: "https://id.example.org".to_owned(), audience: "handover".to_owned() }
    }

    /// Claims that are good, but for what `other` says.
    fn claims(other: &Value) -> Value {
        let Issuer { issuer, audience } = issuer();
        let exp = jsonwebtoken::get_current_timestamp() + 3600;
        let mut claims = json!({ "iss": issuer, "aud": audience, "sub": "alice", "exp": exp });
        for (name, value) in other.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }

    #[test]
    fn a_token_says_who_and_of_what_rank() {
        let signer = Signer::new();
        let keys = keys(&[&signer.jwk]).unwrap();
        let who = |other: &Value| keys.verify(&signer.sign(&claims(other)), &issuer());
        assert_eq!(who(&json!({})), Ok(Principal { name: "jwt:alice".into(), rank: Rank::Viewer }));
        let admin = Principal { name: "jwt:bob".into(), rank: Rank::Admin };
        assert_eq!(who(&json!({ "sub": "bob", "handover_rank": "admin" })), Ok(admin));
    }

    #[test]
    fn what_is_not_said_as_it_has_to_be_is_worth_nothing() {
        let signer = Signer::new();
        let keys = keys(&[&signer.jwk]).unwrap();
        let now = jsonwebtoken::get_current_timestamp();
        for wrong in [
            json!({ "exp": now - 2 * LEEWAY_SECONDS }),
            json!({ "exp": null }),
            json!({ "nbf": now + 3600 }),
            json!({ "iss": "https://other.example.org" }),
            json!({ "aud": "others" }),
            json!({ "aud": null }),
            json!({ "sub": null }),
            json!({ "sub": "" }),
            json!({ "sub": "a".repeat(SUBJECT_BYTES_MAX + 1) }),
            json!({ "handover_rank": "king" }),
        ] {
            assert!(keys.verify(&signer.sign(&claims(&wrong)), &issuer()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_signature_is_of_a_known_key_over_these_claims() {
        let (signer, other) = (Signer::new(), Signer::new());
        let keys = keys(&[&signer.jwk]).unwrap();
        let good = signer.sign(&claims(&json!({})));
        assert!(
            keys.verify(&other.sign(&claims(&json!({}))), &issuer()).is_err(),
            "the same name, another key"
        );
        let admin = signer.sign(&claims(&json!({ "handover_rank": "admin" })));
        let (good, admin): (Vec<_>, Vec<_>) = (good.split('.').collect(), admin.split('.').collect());
        assert!(keys.verify(&[good[0], admin[1], good[2]].join("."), &issuer()).is_err(), "changed");
        // Unsigned, and signed with what everybody knows.
        let unsigned = Header { alg: Algorithm::HS256, kid: Some("key-1".to_owned()), ..Header::default() };
        let public = EncodingKey::from_secret(signer.jwk.to_string().as_bytes());
        let forged = jsonwebtoken::encode(&unsigned, &claims(&json!({})), &public).unwrap();
        assert!(keys.verify(&forged, &issuer()).is_err(), "another algorithm");
    }

    #[test]
    fn secrets_are_not_public_keys() {
        let secret = json!({ "kty": "oct", "kid": "key-1", "alg": "HS256", "k": "c2VjcmV0" });
        assert!(keys(&[&secret]).is_err());
        assert!(keys(&[&Signer::new().jwk, &secret]).is_err(), "whatever else there is");
        assert!(keys(&[]).is_err());
    }

    #[test]
    fn a_key_of_no_use_is_left_out_and_the_others_hold() {
        let signer = Signer::new();
        let good = signer.sign(&claims(&json!({})));
        for other in [
            json!({ "kid": null }),
            json!({ "use": "enc" }),
            json!({ "key_ops": ["wrapKey"] }),
            json!({ "alg": "RSA-OAEP" }),
            json!({ "alg": "ES512" }),
            json!({ "kty": "AKP" }),
            json!({ "crv": "secp256k1" }),
            json!({ "x": "?" }),
        ] {
            let mut of_no_use = Signer::new().jwk;
            for (name, value) in other.as_object().unwrap() {
                of_no_use[name] = value.clone();
            }
            assert!(keys(&[&of_no_use]).is_err(), "{other}");
            let keys = keys(&[&of_no_use, &signer.jwk]).unwrap();
            assert!(keys.verify(&good, &issuer()).is_ok(), "{other}");
        }
        let mut said = signer.jwk.clone();
        said["use"] = json!("sig");
        said["key_ops"] = json!(["verify"]);
        assert!(keys(&[&said]).unwrap().verify(&good, &issuer()).is_ok());
    }
}
