//! Who may call what. Each gRPC service says it for each of its methods, and one layer in front of all of them sees to
//! it, where connections are TLS. Where they are not, nobody knows who calls, and everybody may. Who changes something
//! as an operator, or tries to, is logged under the target `audit`.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use model::Name;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::Tls;
use super::identity::{Identity, Role};
use crate::status;

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody: a client, or whoever looks after the health of a process.
    Anybody,
    /// Every process of the cluster, and operators.
    Cluster,
    /// Processes of these roles.
    Roles(&'static [Role]),
    /// Operators, and every call is logged.
    Operators,
}

/// Who may call the method of this name, of one service.
pub(crate) type Gate = fn(&str) -> Access;

/// What stands in front of all services of a process.
#[derive(Clone)]
pub(crate) struct Guard {
    /// The cluster, if it is known who calls.
    cluster: Option<Name>,
    gates: Arc<[(&'static str, Gate)]>,
}

impl Guard {
    pub(crate) fn new(tls: Option<&Tls>, gates: impl IntoIterator<Item = (&'static str, Gate)>) -> Guard {
        Guard { cluster: tls.map(Tls::cluster), gates: gates.into_iter().collect() }
    }

    /// Who calls, as far as that is known; or why the call is refused.
    fn admit<B>(&self, request: &Request<B>) -> Result<Option<Identity>, Status> {
        let path = request.uri().path().trim_start_matches('/');
        let (service, method) = path.split_once('/').unwrap_or_default();
        let gate = self.gates.iter().find(|(name, _)| *name == service);
        // Health and reflection are for everybody, and so is to be told that there is no such service.
        let access = gate.map_or(Access::Anybody, |(_, gate)| gate(method));
        let admitted = match self.cluster {
            Some(cluster) => {
                let caller = caller(request).filter(|caller| caller.cluster == cluster);
                admit(path, access, caller, cluster)
            }
            None => Ok(None),
        };
        if access == Access::Operators {
            match &admitted {
                Ok(Some(caller)) => tracing::info!(target: "audit", %caller, method = path, "admitted"),
                Ok(None) => tracing::info!(target: "audit", method = path, "admitted, whoever it is"),
                Err(status) => {
                    tracing::warn!(target: "audit", method = path, why = status.message(), "refused")
                }
            }
        }
        admitted
    }
}

fn admit(
    path: &str,
    access: Access,
    caller: Option<Identity>,
    cluster: Name,
) -> Result<Option<Identity>, Status> {
    let roles: &[Role] = match access {
        Access::Anybody => return Ok(caller),
        Access::Cluster => &Role::ALL,
        Access::Roles(roles) => roles,
        Access::Operators => &[Role::Operator],
    };
    match caller {
        Some(caller) if roles.contains(&caller.role) => Ok(Some(caller)),
        Some(caller) => {
            let message = format!("{path} is not for {caller}");
            Err(status::because(Code::PermissionDenied, "WRONG_ROLE", message))
        }
        None => {
            let message = format!("{path} is for processes with a certificate of cluster {cluster}");
            Err(status::because(Code::Unauthenticated, "NO_CERTIFICATE", message))
        }
    }
}

fn caller<B>(request: &Request<B>) -> Option<Identity> {
    let connection = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>()?;
    Identity::of(connection.peer_certs()?.first()?)
}

/// Who makes a call, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller(Option<Identity>);

impl Caller {
    /// Who makes this call.
    pub fn of<T>(request: &tonic::Request<T>) -> Caller {
        Caller(request.extensions().get().copied())
    }

    /// Makes sure that the caller is what it says: the process `name`. Where nobody knows who calls, it is believed.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, if the caller's certificate is another's.
    pub fn speaks_for(self, name: Name) -> Result<(), Status> {
        match self.0.filter(|caller| caller.name != name) {
            Some(caller) => {
                let message = format!("{caller} cannot speak for {name}");
                Err(status::because(Code::PermissionDenied, "WRONG_NAME", message))
            }
            None => Ok(()),
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
                if let Some(caller) = caller {
                    request.extensions_mut().insert(caller);
                }
                Either::Left(self.inner.call(request))
            }
            Err(refusal) => Either::Right(ready(Ok(refusal.into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: Name = Name::literal("c");

    /// What becomes of a call of `service/method` where nobody has shown a certificate.
    fn refusal(guard: &Guard, path: &str) -> Option<String> {
        let request = Request::builder().uri(format!("https://host/{path}")).body(()).unwrap();
        guard.admit(&request).err().and_then(|status| status::reason(&status))
    }

    #[test]
    fn each_method_has_its_own_access_and_other_services_are_open() {
        let gate: Gate = |method| match method {
            "Open" => Access::Anybody,
            "Status" => Access::Cluster,
            "Drain" => Access::Operators,
            _ => Access::Roles(&[Role::Server]),
        };
        let gates = || [("a.v1.A", gate)];
        let guard = Guard { cluster: Some(CLUSTER), gates: gates().into() };
        for (path, expected) in [
            ("a.v1.A/Open", None),
            ("a.v1.A/Status", Some("NO_CERTIFICATE")),
            ("a.v1.A/Drain", Some("NO_CERTIFICATE")),
            ("a.v1.A/Anything", Some("NO_CERTIFICATE")),
            ("grpc.health.v1.Health/Check", None),
            ("nonsense", None),
        ] {
            assert_eq!(refusal(&guard, path).as_deref(), expected, "{path}");
        }
        let trusting = Guard::new(None, gates());
        assert_eq!(refusal(&trusting, "a.v1.A/Anything"), None, "nobody can know who calls");
    }

    #[test]
    fn a_caller_speaks_for_itself_alone() {
        let known = Identity { cluster: CLUSTER, role: Role::Server, name: Name::literal("server-1") };
        let mut request = tonic::Request::new(());
        assert!(Caller::of(&request).speaks_for(Name::literal("server-2")).is_ok(), "nobody knows who calls");
        request.extensions_mut().insert(known);
        assert!(Caller::of(&request).speaks_for(known.name).is_ok());
        let refused = Caller::of(&request).speaks_for(Name::literal("server-2")).unwrap_err();
        assert_eq!(status::reason(&refused).as_deref(), Some("WRONG_NAME"));
    }
}
