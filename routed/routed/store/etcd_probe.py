"""Why a member of etcd cannot be reached, found out with the standard library.

gRPC's own words for it change with its releases.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from contextlib import suppress

from routed.errors import EnvironmentFault, OperatorError, RoutedError
from routed.store.etcd_url import Endpoint, Tls

_ALERT_SECONDS = 0.5  # TLS 1.3: a member refuses our certificate after the handshake is over


async def why_not(endpoint: Endpoint, tls: Tls | None, seconds: float) -> RoutedError:
    """What keeps `endpoint` from serving us; found out within `seconds`."""
    where = f"store: etcd at {endpoint}"
    try:
        async with asyncio.timeout(seconds):
            if tls is None:
                return await _plain(endpoint, where)
            return await _secured(endpoint, context_of(tls), where)
    except TimeoutError:
        return EnvironmentFault(f"{where}: no answer within {seconds:g} s", hint="is it running, and not cut off?")
    except ssl.SSLCertVerificationError as error:
        return OperatorError(
            f"{where}: its certificate is not good: {error.verify_message}",
            hint=f"correct ca={tls and tls.ca}, or the host of the URL, which has to be a name of the certificate",
        )
    except ssl.SSLError as error:
        return OperatorError(
            f"{where}: TLS is refused: {error.reason or error}",
            hint="give cert=FILE and key=FILE that the member's authority has signed; the log of etcd says more",
        )
    except OSError as error:
        return EnvironmentFault(
            f"{where}: {_reason(error)}", hint="start etcd there, or correct the hosts in the store's URL"
        )


def context_of(tls: Tls) -> ssl.SSLContext:
    """The standard library's form of `tls`. Raises OperatorError that names the file which is at fault."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2"])
    file = tls.ca
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.cert and tls.key:
            for file in (tls.cert, tls.key):
                file.read_bytes()
            context.load_cert_chain(tls.cert, tls.key)
    except ssl.SSLError as error:
        raise OperatorError(
            f"store: {file}: {error.reason or error}",
            hint="expected PEM: certificates in ca and cert, in key the private key of cert without a passphrase",
        ) from error
    except OSError as error:
        raise OperatorError(
            f"store: {file}: {error.strerror or error}", hint="correct the path in the store's URL"
        ) from error
    context.set_alpn_protocols(["h2"])
    return context


def _reason(error: OSError) -> str:
    """The system's words for `error`; asyncio puts its own in their place."""
    if isinstance(error, socket.gaierror) or error.errno is None:
        return error.strerror or str(error)
    return os.strerror(error.errno)


async def _secured(endpoint: Endpoint, context: ssl.SSLContext, where: str) -> RoutedError:
    try:
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=context)
    except (ConnectionResetError, ssl.SSLEOFError):
        await asyncio.sleep(0)  # it is closed by then
        return OperatorError(f"{where}: does not speak TLS", hint="leave ca, cert and key out of the store's URL")
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(_ALERT_SECONDS):
                await reader.read(1)  # raises SSLError for an alert
    finally:
        await _leave(writer)
    return EnvironmentFault(f"{where}: the connection was ended", hint="see the log of etcd")


async def _leave(writer: asyncio.StreamWriter) -> None:
    """Close it now: a farewell in TLS may take as long as the other end likes."""
    writer.transport.abort()
    await asyncio.sleep(0)


async def _plain(endpoint: Endpoint, where: str) -> RoutedError:
    _, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    await _leave(writer)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # to find out whether it speaks TLS at all
    try:
        _, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=context)
    except OSError:
        await asyncio.sleep(0)
        return EnvironmentFault(f"{where}: the connection was ended", hint="is that port etcd's? See the log of etcd")
    await _leave(writer)
    return OperatorError(f"{where}: speaks TLS", hint="add ?ca=FILE to the store's URL, the members' authority")
