"""Sessions of Handover: streams that go on when their servers die.

    with Session.open(["127.0.0.1:7400", "127.0.0.1:7401"], "mandelbrot") as session:
        for response in session:
            screen.write(response.payload)
            if response.last:
                break

Servers come and go unseen. A gateway that goes away is replaced by the next one of those given, and the session goes on
after the last response that the program was given: nothing is lost, and nothing comes twice. Calls that may be made
again elsewhere are, after pauses that grow; what is refused is raised, as an `Error` of its own kind.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import grpc
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from handover.session.v1 import session_pb2 as pb
from handover.session.v1.session_pb2_grpc import SessionServiceStub

__all__ = ["Error", "NotFound", "Refused", "Session", "Unreachable", "units"]

T = TypeVar("T")
Credentials = grpc.ChannelCredentials | None

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_TRANSIENT = {grpc.StatusCode[it] for it in "UNAVAILABLE RESOURCE_EXHAUSTED UNKNOWN INTERNAL CANCELLED".split()}
# A request that the service refused has had its number; one that the gateway refused has not.
_BY_THE_SERVICE = {"MALFORMED_REQUEST", "REQUEST_OUT_OF_RANGE", "REQUEST_REFUSED", "REQUEST_FAILED"}
_OPTIONS = [("grpc.keepalive_time_ms", 2000), ("grpc.keepalive_timeout_ms", 2000)]


class Error(Exception):
    """Why a call failed. `reason` is the stable word that the contract gives, such as UNKNOWN_UNIT."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(f"{message} ({reason})" if reason else message)
        self.reason = reason


class NotFound(Error):
    """There is no such unit, or the session is over."""


class Refused(Error):
    """The service, or the gateway, does not do this."""


class Unreachable(Error):
    """No gateway helped in time."""


def _reason(error: grpc.RpcError) -> str:
    status, info = rpc_status.from_call(error), error_details_pb2.ErrorInfo()
    details = status.details if status else ()
    return next((info.reason for detail in details if detail.Unpack(info)), "")


def _typed(error: grpc.RpcError) -> Error:
    kind = NotFound if error.code() == grpc.StatusCode.NOT_FOUND else Refused
    return kind(error.details(), _reason(error))


def _wait(pause: float) -> float:
    """Waits about so long, and returns how long to wait the next time."""
    time.sleep(pause * random.uniform(0.5, 1.0))
    return min(2 * pause, _LONGEST_PAUSE)


class _Gateways:
    """The gateways that a program knows, and the one in use."""

    def __init__(self, addresses: Sequence[str], patience: float, credentials: Credentials) -> None:
        assert addresses, "a client knows a gateway"
        self._addresses, self.patience, self._credentials = list(addresses), patience, credentials
        self._lock = threading.Lock()
        self._open()

    def _open(self) -> None:
        secure = (self._credentials,) if self._credentials else ()
        connect = grpc.secure_channel if secure else grpc.insecure_channel
        self.channel = connect(self._addresses[0], *secure, options=_OPTIONS)
        self.stub = SessionServiceStub(self.channel)

    def leave(self, stub: SessionServiceStub) -> None:
        """Goes on at the next gateway, unless another thread has left this one already."""
        with self._lock:
            if stub is self.stub:
                self.channel.close()
                self._addresses.append(self._addresses.pop(0))
                self._open()

    def call(self, what: Callable[[SessionServiceStub], T], passing: str | None = None) -> T:
        """Makes a call until a gateway answers it. A refusal for the reason `passing` may be none a moment later."""
        deadline, pause = time.monotonic() + self.patience, _FIRST_PAUSE
        while True:
            stub = self.stub
            try:
                return what(stub)
            except ValueError as error:  # Another thread has left this gateway.
                last = str(error)
            except grpc.RpcError as error:
                last = error.details()
                if error.code() in _TRANSIENT:
                    self.leave(stub)
                elif _reason(error) != passing:
                    raise _typed(error) from None
            if time.monotonic() > deadline:
                raise Unreachable(f"no gateway helped within {self.patience:.0f} s: {last}")
            pause = _wait(pause)


def units(gateways: Sequence[str], patience=30.0, credentials: Credentials = None) -> list[Any]:
    """The content units that can be opened: `name` is `contentUnits/UNIT`."""
    known = _Gateways(gateways, patience, credentials)
    listed = known.call(lambda stub: stub.ListContentUnits(pb.ListContentUnitsRequest()))
    known.channel.close()
    return list(listed.content_units)


class Session:
    """A session. Its responses are read by one thread; requests may be sent by others meanwhile."""

    def __init__(self, gateways: _Gateways, created: pb.CreateSessionResponse) -> None:
        self.name, self._secret, self._cursor = created.name, created.secret, created.cursor
        self._gateways, self._requests, self._lock = gateways, 0, threading.Lock()

    @classmethod
    def open(cls, gateways: Sequence[str], unit: str, patience=30.0, credentials: Credentials = None) -> Session:
        """Opens a session on `unit` with the first gateway that helps within `patience` seconds."""
        known = _Gateways(gateways, patience, credentials)
        request = pb.CreateSessionRequest(parent=f"contentUnits/{unit}")
        return cls(known, known.call(lambda stub: stub.CreateSession(request)))

    def events(self) -> Iterator[pb.AttachResponse]:
        """Responses, and who serves. Ends after the last response; begin again after a request that goes back."""
        deadline, pause = time.monotonic() + self._gateways.patience, _FIRST_PAUSE
        while True:
            request = pb.AttachRequest(name=self.name, secret=self._secret, cursor=self._cursor)
            stub = self._gateways.stub
            stream = stub.Attach(request)
            try:
                for event in stream:
                    deadline, pause = time.monotonic() + self._gateways.patience, _FIRST_PAUSE
                    if event.HasField("response"):
                        self._cursor = event.response.cursor
                    yield event
                return
            except grpc.RpcError as error:
                if error.code() not in _TRANSIENT:
                    raise _typed(error) from None
                if time.monotonic() > deadline:
                    raise Unreachable(f"no gateway helped in time: {error.details()}") from None
                self._gateways.leave(stub)
            finally:
                stream.cancel()
            pause = _wait(pause)

    def __iter__(self) -> Iterator[pb.Response]:
        """The responses."""
        return (event.response for event in self.events() if event.HasField("response"))

    def send(self, operation: dict[str, Any]) -> int:
        """Has the service do something, and returns the request's number once it is applied: once, however often it
        has to be sent. The session has to be read meanwhile."""
        with self._lock:
            number = self._requests + 1
            request = pb.SendRequestRequest(
                name=self.name, secret=self._secret, number=number, operation=json_format.ParseDict(operation, Struct())
            )
            try:
                # Whoever reads the session may still be on the way to this gateway.
                self._gateways.call(lambda stub: stub.SendRequest(request), "UNKNOWN_SESSION")
            except Refused as refused:
                self._requests += refused.reason in _BY_THE_SERVICE
                raise
            self._requests = number
            return number

    def close(self) -> None:
        """Ends the session for good."""
        request = pb.CloseSessionRequest(name=self.name, secret=self._secret)
        self._gateways.call(lambda stub: stub.CloseSession(request))
        self._gateways.channel.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
