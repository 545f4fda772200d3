"""The local optuna-dashboard: studies of tunings in a browser, from the database that tunings here write to."""

import http.client
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsight.local.asking import ask
from sparsight.local.processes import HOST
from sparsight.stores.settings import is_loopback
from sparsight.stores.studies import URL_VARIABLE, StudyStorage, sqlite_url

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_SAFE = {"GET", "HEAD"}


def command(port: int, data: Path) -> list[str]:
    """The command line that starts it; where studies are kept goes into its environment."""
    return [sys.executable, "-I", "-m", "sparsight.local.optuna_dashboard", str(port), str(data)]


def environment(data: Path) -> Mapping[str, str]:
    """Where studies are kept."""
    return {URL_VARIABLE: storage_url(data)}


def storage_url(data: Path) -> str:
    """Name the database that the user's environment names, or an SQLite file in the service's folder."""
    return os.environ.get(URL_VARIABLE, "").strip() or sqlite_url(data / "studies.db")


def answers(port: int, data: Path) -> bool:
    """Ask which studies there are."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    return ask(connection, "/api/studies", {})[0] == 200


def only_from_here(app: "WSGIApplication") -> "WSGIApplication":
    """Refuse what another site's page sends: the dashboard itself asks nobody who they are."""

    def guarded(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        addresses = [f"http://{environ.get('HTTP_HOST', '')}"]
        if environ["REQUEST_METHOD"] not in _SAFE and "HTTP_ORIGIN" in environ:
            addresses.append(environ["HTTP_ORIGIN"])
        if all(map(is_loopback, addresses)):
            return app(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"This server answers pages of its own only.\n"]

    return guarded


def main(port: int, data: Path) -> None:
    """Serve until the process is ended."""
    import warnings
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

    from sparsight.local.http_server import Quiet

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the dashboard's own code
        from optuna_dashboard import wsgi

    class Threaded(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    class Handler(Quiet, WSGIRequestHandler):
        pass

    serve: Callable[..., Any] = wsgi
    with StudyStorage.from_environment(data / "studies.db").opened() as storage:
        app = only_from_here(serve(storage))
        make_server(HOST, port, app, server_class=Threaded, handler_class=Handler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
