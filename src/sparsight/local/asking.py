"""One request to a local server, to see whether it is well."""

import http.client
from collections.abc import Mapping


def ask(
    connection: http.client.HTTPConnection,
    path: str,
    headers: Mapping[str, str],
    *,
    method: str = "GET",
    body: bytes | None = None,
) -> tuple[int, bytes]:
    """Send one request and close the connection; returns status and body, of which a megabyte at most.

    Raises:
        OSError, HTTPException: the server doesn't answer, or not in HTTP.
    """
    try:
        connection.request(method, path, body=body, headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.read(1 << 20)
    finally:
        connection.close()
