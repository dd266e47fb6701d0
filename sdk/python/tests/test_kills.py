"""A film, while a server and then a gateway are killed: every byte once. Refusals have their types and reasons.

    python -m unittest discover sdk/python/tests

The command is the program in the variable HANDOVER_BIN.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import tempfile
import threading
import unittest

import grpc
from handover_client import NotFound, Refused, Session, Unreachable, units

HANDOVER = os.environ["HANDOVER_BIN"]
ROOT = pathlib.Path(__file__).parents[3]
FILM = ROOT / "content" / "life.mp4"


class Cluster:
    """`handover up`, which starts again what is killed."""

    def __init__(self, *flags: str, **env: str) -> None:
        self.home = tempfile.TemporaryDirectory()
        self.env = {**os.environ, "XDG_STATE_HOME": self.home.name, **env}
        self.up = subprocess.Popen([HANDOVER, "up", *flags], env=self.env, stdout=subprocess.PIPE, text=True)
        for line in self.up.stdout:
            if line.startswith("Next"):
                break
        else:
            raise AssertionError("the cluster did not come up")
        self.drain = threading.Thread(target=self.up.stdout.read)
        self.drain.start()

    def gateways(self) -> list[str]:
        state = json.loads((pathlib.Path(self.home.name) / "handover/local/cluster.json").read_text())
        return [it["address"] for it in state["processes"] if it["service"] == "gateway"]

    def kill(self, kind: str, name: str) -> None:
        subprocess.run([HANDOVER, "kill", kind, name], env=self.env, check=True, stdout=subprocess.DEVNULL)

    def close(self) -> None:
        self.up.terminate()
        self.up.wait()
        self.drain.join()
        self.home.cleanup()


class Kills(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.cluster = Cluster()
        cls.addClassCleanup(cls.cluster.close)

    def test_a_film_is_whole_though_its_server_and_its_gateway_are_killed(self) -> None:
        with Session.open(self.cluster.gateways(), "life") as session:
            hurry = threading.Thread(target=session.send, args=({"rate": {"factor": 8}},))
            hurry.start()
            film, servers, numbers = hashlib.sha256(), [], []
            for event in session.events():
                if event.HasField("serving"):
                    servers.append(event.serving.server)
                if not event.HasField("response"):
                    continue
                film.update(event.response.payload)
                numbers.append(event.response.number)
                if event.response.number == 20:
                    self.cluster.kill("server", servers[-1])
                if event.response.number == 50:
                    self.cluster.kill("gateway", "gateway-1")
            hurry.join()
        self.assertEqual(numbers, list(range(1, len(numbers) + 1)))
        self.assertEqual(film.hexdigest(), hashlib.sha256(FILM.read_bytes()).hexdigest())
        self.assertGreater(len(set(servers)), 1, servers)

    def test_the_examples_that_people_read_do_what_they_say(self) -> None:
        one, other = self.cluster.gateways()
        for page in ["README.md", "sdk/python/README.md"]:
            example = (ROOT / page).read_text().split("```python\n")[1].split("```")[0]
            example = example.replace("127.0.0.1:7400", one).replace("127.0.0.1:7401", other)
            # The film of a minute is too long for a test: it is told to hurry before it is read.
            hurry = "    threading.Thread(target=session.send, args=({'rate': {'factor': 8}},)).start()\n"
            begin = example.index("    with open")
            with tempfile.TemporaryDirectory() as home:
                film = pathlib.Path(home) / "mandelbrot.mp4"
                example = (example[:begin] + hurry + example[begin:]).replace('"mandelbrot.mp4"', repr(str(film)))
                exec(example, {"threading": threading})
                self.assertEqual(film.read_bytes(), (ROOT / "content" / "mandelbrot.mp4").read_bytes())

    def test_what_is_refused_has_its_type_and_its_reason(self) -> None:
        gateways = self.cluster.gateways()
        self.assertIn("contentUnits/life", [unit.name for unit in units(gateways)])
        with self.assertRaises(NotFound) as refused:
            Session.open(gateways, "nothing")
        self.assertEqual(refused.exception.reason, "UNKNOWN_UNIT")
        with self.assertRaises(Unreachable):
            Session.open(["127.0.0.1:1"], "life", patience=0.2)
        with Session.open(gateways, "gradients") as session:
            events = session.events()
            next(events)
            for operation, reason in [
                ({"fly": {}}, "MALFORMED_REQUEST"),
                ({"seek": {"position_ms": 1e9}}, "REQUEST_OUT_OF_RANGE"),
                ({"words": "x" * 70_000}, "REQUEST_TOO_LARGE"),
            ]:
                with self.assertRaises(Refused) as refused:
                    session.send(operation)
                self.assertEqual(refused.exception.reason, reason)
            self.assertEqual(session.send({"pause": {}}), 3)

    def test_a_token_is_asked_for_before_each_call(self) -> None:
        with tempfile.TemporaryDirectory() as home:
            tokens = os.path.join(home, "tokens.toml")

            def draw(name: str, rank: str) -> str:
                return subprocess.check_output([HANDOVER, "token", tokens, name, "--rank", rank], text=True).strip()

            admin, token, asked = draw("ada", "admin"), draw("alice", "viewer"), []

            def show(context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
                asked.append(context.method_name)
                callback([("authorization", f"Bearer {token}")], None)

            cluster = Cluster("--auth-tokens", tokens, HANDOVER_TOKEN=admin)
            self.addCleanup(cluster.close)
            here, call = grpc.local_channel_credentials(), grpc.metadata_call_credentials(show)
            with self.assertRaises(Refused) as refused:
                units(cluster.gateways(), credentials=here)
            self.assertEqual(refused.exception.reason, "NO_TOKEN")
            both = grpc.composite_channel_credentials(here, call)
            with Session.open(cluster.gateways(), "life", credentials=both) as session:
                next(iter(session))
            self.assertEqual(asked, ["CreateSession", "Attach", "CloseSession"])


if __name__ == "__main__":
    unittest.main()
