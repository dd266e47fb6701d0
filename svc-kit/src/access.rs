//! Who may call what. Each gRPC service says it for each of its methods, and one layer in front of all of them sees to
//! it. Processes are known by their certificates, where connections are TLS; people by their tokens, where those are asked
//! for, or by certificates of operators. Where neither is so, nobody knows who calls, and everybody may. Who changes something
//! as an operator, or tries to, is logged under the target `audit`.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use model::Name;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::auth::{Auth, Principal, Rank};
use crate::status;
use crate::tls::{Identity, Role, Tls};

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody: whoever looks after the health of a process.
    Anybody,
    /// Clients: whoever has a token, where tokens are asked for, and everybody where not.
    Clients,
    /// Every process of the cluster, and operators.
    Cluster,
    /// Processes of these roles.
    Roles(&'static [Role]),
    /// Operators, and every call is logged.
    Operators,
    /// Those of them who are administrators, and every call is logged.
    Admins,
}

impl Access {
    /// The processes that may call, known by their certificates.
    fn roles(self) -> &'static [Role] {
        match self {
            Access::Anybody | Access::Cluster => &Role::ALL,
            Access::Roles(roles) => roles,
            Access::Clients | Access::Operators | Access::Admins => &[Role::Operator],
        }
    }

    /// The least rank that may call, known by a token; none will do where processes talk to each other.
    fn rank(self) -> Option<Rank> {
        match self {
            Access::Anybody | Access::Clients => Some(Rank::Viewer),
            Access::Cluster | Access::Operators => Some(Rank::Operator),
            Access::Admins => Some(Rank::Admin),
            Access::Roles(_) => None,
        }
    }

    /// Whether everybody may call as long as nothing can say who processes are, or who clients are.
    fn is_open(self, certified: bool, known: bool) -> bool {
        match self {
            Access::Anybody => true,
            Access::Clients => !known,
            Access::Cluster | Access::Roles(_) => !certified,
            Access::Operators | Access::Admins => !certified && !known,
        }
    }
}

/// Who may call the method of this name, of one service.
pub(crate) type Gate = fn(&str) -> Access;

/// What stands in front of all services of a process.
#[derive(Clone)]
pub(crate) struct Guard {
    /// The cluster whose certificates are good, if it is known which processes call.
    cluster: Option<Name>,
    /// What tokens are good, if clients are asked for them.
    auth: Option<Auth>,
    gates: Arc<[(&'static str, Gate)]>,
}

impl Guard {
    pub(crate) fn new(
        tls: Option<&Tls>,
        auth: Option<Auth>,
        gates: impl IntoIterator<Item = (&'static str, Gate)>,
    ) -> Guard {
        Guard { cluster: tls.map(Tls::cluster), auth, gates: gates.into_iter().collect() }
    }

    /// Who calls, as far as that is known; or why the call is refused.
    fn admit<B>(&self, request: &Request<B>) -> Result<Caller, Status> {
        let path = request.uri().path().trim_start_matches('/');
        let (service, method) = path.split_once('/').unwrap_or_default();
        let gate = self.gates.iter().find(|(name, _)| *name == service);
        // Health and reflection are for everybody, and so is to be told that there is no such service.
        let access = gate.map_or(Access::Anybody, |(_, gate)| gate(method));
        let admitted = self.who(request).and_then(|caller| self.pass(path, access, caller));
        if matches!(access, Access::Operators | Access::Admins) {
            match &admitted {
                Ok(caller) => tracing::info!(target: "audit", %caller, method = path, "admitted"),
                Err(status) => {
                    tracing::warn!(target: "audit", method = path, why = status.message(), "refused")
                }
            }
        }
        admitted
    }

    /// Who calls. A token that is no good is refused even where none is needed: who shows one wants to be known by it.
    fn who<B>(&self, request: &Request<B>) -> Result<Caller, Status> {
        let process =
            self.cluster.and_then(|cluster| certified(request).filter(|process| process.cluster == cluster));
        let principal = match &self.auth {
            Some(auth) => auth
                .who(request.headers())
                .map_err(|bad| status::because(Code::Unauthenticated, "BAD_TOKEN", bad.to_string()))?,
            None => None,
        };
        Ok(Caller { process, principal })
    }

    fn pass(&self, path: &str, access: Access, caller: Caller) -> Result<Caller, Status> {
        let Caller { process, principal } = &caller;
        let by_role = process.is_some_and(|process| access.roles().contains(&process.role));
        let by_rank =
            principal.as_ref().is_some_and(|it| access.rank().is_some_and(|least| it.rank >= least));
        if by_role || by_rank || access.is_open(self.cluster.is_some(), self.auth.is_some()) {
            return Ok(caller);
        }
        if process.is_some() || principal.is_some() {
            let least = access.rank().filter(|_| principal.is_some());
            let needed = least.map(|least| format!(": it takes the rank {least}")).unwrap_or_default();
            let message = format!("{path} is not for {caller}{needed}");
            return Err(status::because(Code::PermissionDenied, "WRONG_ROLE", message));
        }
        Err(match (self.cluster, access.rank().filter(|_| self.auth.is_some())) {
            (_, Some(least)) => {
                let message = format!("{path} is for those with a token of rank {least}");
                status::because(Code::Unauthenticated, "NO_TOKEN", message)
            }
            (Some(cluster), None) => {
                let message = format!("{path} is for processes with a certificate of cluster {cluster}");
                status::because(Code::Unauthenticated, "NO_CERTIFICATE", message)
            }
            (None, None) => {
                status::because(Code::PermissionDenied, "WRONG_ROLE", format!("{path} is for nobody"))
            }
        })
    }
}

/// Who the certificate of the connection is for.
fn certified<B>(request: &Request<B>) -> Option<Identity> {
    let connection = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>()?;
    Identity::of(connection.peer_certs()?.first()?)
}

/// Who makes a call, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    process: Option<Identity>,
    principal: Option<Principal>,
}

impl Caller {
    /// Who makes this call.
    pub fn of<T>(request: &tonic::Request<T>) -> Caller {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// Makes sure that the caller is what it says: the process `name`. Where nobody knows who calls, it is believed.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, if the caller's certificate is another's.
    pub fn speaks_for(&self, name: Name) -> Result<(), Status> {
        match self.process.filter(|caller| caller.name != name) {
            Some(caller) => {
                let message = format!("{caller} cannot speak for {name}");
                Err(status::because(Code::PermissionDenied, "WRONG_NAME", message))
            }
            None => Ok(()),
        }
    }

    /// The name under which the caller is known as a client, if its token says one.
    pub fn principal(&self) -> Option<Arc<str>> {
        self.principal.as_ref().map(|principal| principal.name.clone())
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.principal, &self.process) {
            (Some(principal), _) => principal.fmt(f),
            (None, Some(process)) => process.fmt(f),
            (None, None) => f.write_str("somebody"),
        }
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { guard: self.clone(), inner }
    }
}

/// Services behind a guard.
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    guard: Guard,
    inner: S,
}

impl<S, B> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.guard.admit(&request) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Either::Left(self.inner.call(request))
            }
            Err(refusal) => Either::Right(ready(Ok(refusal.into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::codegen::http::header::AUTHORIZATION;

    use super::*;
    use crate::auth::AuthFiles;
    use crate::auth::tokens::Token;

    const CLUSTER: Name = Name::literal("c");

    fn gate(method: &str) -> Access {
        match method {
            "Ping" => Access::Anybody,
            "Open" => Access::Clients,
            "Status" => Access::Cluster,
            "Drain" => Access::Operators,
            "Publish" => Access::Admins,
            _ => Access::Roles(&[Role::Server]),
        }
    }

    /// A guard that knows one token of each rank, if it asks for them at all.
    fn guard(cluster: Option<Name>, asks: bool) -> (Guard, [Token; 3]) {
        let tokens = [(); 3].map(|()| Token::draw());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let ranks = [Rank::Viewer, Rank::Operator, Rank::Admin];
        let entry = |(token, rank): (&Token, Rank)| token.entry(rank.to_string().parse().unwrap(), rank);
        std::fs::write(&path, tokens.iter().zip(ranks).map(entry).collect::<String>()).unwrap();
        let files = AuthFiles { tokens: asks.then_some(path), ..AuthFiles::default() };
        let gates: Arc<[_]> = [("a.v1.A", gate as Gate)].into();
        (Guard { cluster, auth: files.open().unwrap(), gates }, tokens)
    }

    /// What becomes of a call where nobody has shown a certificate.
    fn refusal(guard: &Guard, path: &str, token: Option<&Token>) -> Option<String> {
        let request = Request::builder().uri(format!("https://host/{path}"));
        let request = match token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        };
        guard.admit(&request.body(()).unwrap()).err().and_then(|status| status::reason(&status))
    }

    #[test]
    fn each_method_has_its_own_access_and_other_services_are_open() {
        let (guard, _) = guard(Some(CLUSTER), false);
        for (path, expected) in [
            ("a.v1.A/Ping", None),
            ("a.v1.A/Open", None),
            ("a.v1.A/Status", Some("NO_CERTIFICATE")),
            ("a.v1.A/Drain", Some("NO_CERTIFICATE")),
            ("a.v1.A/Publish", Some("NO_CERTIFICATE")),
            ("a.v1.A/Anything", Some("NO_CERTIFICATE")),
            ("grpc.health.v1.Health/Check", None),
            ("nonsense", None),
        ] {
            assert_eq!(refusal(&guard, path, None).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn where_nothing_says_who_calls_everybody_may() {
        let (trusting, _) = guard(None, false);
        for method in ["Ping", "Open", "Status", "Drain", "Publish", "Anything"] {
            assert_eq!(refusal(&trusting, &format!("a.v1.A/{method}"), None), None, "{method}");
        }
    }

    #[test]
    fn a_token_opens_what_its_rank_may_and_never_what_processes_are_for() {
        let (denied, missing) = (Some("WRONG_ROLE"), Some("NO_TOKEN"));
        for (method, refusals) in [
            ("Ping", [None; 4]),
            ("Open", [missing, None, None, None]),
            ("Status", [missing, denied, None, None]),
            ("Drain", [missing, denied, None, None]),
            ("Publish", [missing, denied, denied, None]),
            ("Anything", [Some("NO_CERTIFICATE"), denied, denied, denied]),
        ] {
            let (guard, [viewer, operator, admin]) = guard(Some(CLUSTER), true);
            for (token, expected) in
                [None, Some(&viewer), Some(&operator), Some(&admin)].into_iter().zip(refusals)
            {
                let path = format!("a.v1.A/{method}");
                assert_eq!(refusal(&guard, &path, token).as_deref(), expected, "{method}");
            }
            let unknown = refusal(&guard, &format!("a.v1.A/{method}"), Some(&Token::draw()));
            assert_eq!(unknown.as_deref(), Some("BAD_TOKEN"));
        }
    }

    #[test]
    fn without_certificates_processes_are_believed_and_people_are_not() {
        let (guard, [viewer, ..]) = guard(None, true);
        for (method, expected) in
            [("Status", None), ("Anything", None), ("Open", Some("NO_TOKEN")), ("Drain", Some("NO_TOKEN"))]
        {
            assert_eq!(refusal(&guard, &format!("a.v1.A/{method}"), None).as_deref(), expected, "{method}");
        }
        assert_eq!(refusal(&guard, "a.v1.A/Drain", Some(&viewer)).as_deref(), Some("WRONG_ROLE"));
    }

    #[test]
    fn a_caller_speaks_for_itself_alone() {
        let known = Identity { cluster: CLUSTER, role: Role::Server, name: Name::literal("server-1") };
        let mut request = tonic::Request::new(());
        assert!(Caller::of(&request).speaks_for(Name::literal("server-2")).is_ok(), "nobody knows who calls");
        request.extensions_mut().insert(Caller { process: Some(known), principal: None });
        assert!(Caller::of(&request).speaks_for(known.name).is_ok());
        let refused = Caller::of(&request).speaks_for(Name::literal("server-2")).unwrap_err();
        assert_eq!(status::reason(&refused).as_deref(), Some("WRONG_NAME"));
    }
}
