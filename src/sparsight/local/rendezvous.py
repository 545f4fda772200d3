"""Where the processes of a step find each other: Horovod's rendezvous, on this machine's loopback address only.

`horovodrun` binds it to every address, and unpickles what anybody sends to its scope `worker_addresses`; here neither.
"""

import socketserver
import threading
from typing import Any

import psutil
from horovod.runner.elastic.discovery import HostDiscovery
from horovod.runner.elastic.rendezvous import PUT_WORKER_ADDRESSES, create_rendezvous_handler
from horovod.runner.gloo_run import create_run_env_vars, create_slot_env_vars
from horovod.runner.http.http_server import RendezvousHTTPServer, RendezvousServer

HOST = "127.0.0.1"
_FORBIDDEN = 403
_MESH = "global"


class _LoopbackServer(RendezvousHTTPServer):  # type: ignore[misc]
    daemon_threads = True  # a worker's question waits until all have asked, at the launcher's end for ever

    def server_bind(self) -> None:
        """Bind without asking the domain name system for this machine's name, which may take long to answer."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a worker that was killed while it asked."""


class Rendezvous(RendezvousServer):  # type: ignore[misc]
    """Horovod's rendezvous server on a free port of the loopback address; it knows who has ever come."""

    def __init__(self) -> None:
        super().__init__()
        self._joined: set[str] = set()

    def start_for(self, driver: Any) -> int:
        """Begin to listen; return the port."""
        rendezvous = self

        class Handler(create_rendezvous_handler(driver)):  # type: ignore[misc]
            def do_PUT(self) -> None:  # noqa: N802 -- the name that http.server calls
                scope, _, key = self.path[1:].partition("/")
                if scope == PUT_WORKER_ADDRESSES:  # nobody asks to be told of changes, and what comes is a pickle
                    self.send_status_code(_FORBIDDEN)
                    return
                if scope == _MESH and key.isdecimal():
                    rendezvous.note(driver, int(key))
                super().do_PUT()

        self._httpd = _LoopbackServer((HOST, 0), Handler, False)
        self._listen_thread = threading.Thread(target=self._httpd.serve_forever, daemon=True)
        self._listen_thread.start()
        return int(self._httpd.server_port)

    def note(self, driver: Any, rank: int) -> None:
        """Note that the worker of a rank has come: from now on others may be connected to it."""
        self._joined |= {place for place, slots in driver.host_assignments.items() if slots[0].rank == rank}

    def has(self, place: str) -> bool:
        """Tell whether the worker in a place has come."""
        return place in self._joined


class Places(HostDiscovery):  # type: ignore[misc]
    """What Horovod takes for hosts: one for each worker and each spare, all on this machine.

    A host on which a worker died is never used again, so with one host for all the first death would be the end.
    """

    def __init__(self, count: int) -> None:
        self._slots = {f"place-{index}": 1 for index in range(count)}

    def find_available_hosts_and_slots(self) -> dict[str, int]:
        """Return the slots of each host."""
        return self._slots


def connection(slot_info: Any, port: int) -> dict[str, str]:
    """Return the variables by which a worker finds the rendezvous and its place in it."""
    found = {**create_slot_env_vars(slot_info), **create_run_env_vars(HOST, [_loopback()], port, elastic=True)}
    return {name: str(value) for name, value in found.items()}


def _loopback() -> str:
    """Name the loopback interface: lo, or lo0 on macOS."""
    addresses = psutil.net_if_addrs()
    return next(name for name, each in addresses.items() if any(one.address == HOST for one in each))
