"""A roll call before `jax.distributed` starts, which ends a process without a word in Python when another one does not come.

Process 0 listens at the coordinator's address until all others have named themselves, and tells each of them to go on, or
what is wrong. Then JAX takes the port over.
"""

import os
import re
import socket
import time
from contextlib import ExitStack, suppress

from jaxnn.types import InputError

GREETING = "jaxnn"


def meet(coordinator: str, num_processes: int, process_id: int, timeout_seconds: float | int) -> None:
    """Return when all processes are there. Raises `InputError` that says who is missing, or that nobody answers, in all of them."""
    address = re.fullmatch(r"\[?(.+?)\]?:(\d{1,5})", coordinator)
    if not address or not 0 < int(address[2]) < 2**16:
        raise InputError(f"coordinator must be host:port, such as node1:29500, got {coordinator!r}")
    if not 0 <= process_id < num_processes:
        raise InputError(f"process_id must be from 0 to num_processes - 1 = {num_processes - 1}, got {process_id}")
    until = time.monotonic() + timeout_seconds
    if process_id == 0:
        _call(int(address[2]), num_processes, until, timeout_seconds)
    else:
        _answer(address[1], int(address[2]), num_processes, process_id, until, timeout_seconds)


def _call(port: int, num_processes: int, until: float, timeout_seconds: float | int) -> None:
    present: dict[int, socket.socket] = {}
    fault = None
    with _listen(port) as server, ExitStack() as open_until_told:
        while not fault and len(present) < num_processes - 1:
            server.settimeout(max(0.01, until - time.monotonic()))
            try:
                connection = open_until_told.enter_context(server.accept()[0])
                fault = _enter(connection, present, num_processes)
            except TimeoutError:
                missing = [str(name) for name in range(1, num_processes) if name not in present]
                which = f"process{'es' * (len(missing) > 1)} {', '.join(missing)} of 0 … {num_processes - 1}"
                fault = f"{which} did not come within {timeout_seconds:g} seconds"
        for connection in present.values():
            with suppress(OSError):  # a process that has died since: JAX will miss it
                connection.sendall(f"{GREETING} {fault or 'go'}\n".encode())
                connection.recv(1)  # it hangs up first, so the port is free at once
    if fault:
        raise InputError(fault)


def _listen(port: int) -> socket.socket:
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        raise InputError(
            f"the coordinator cannot listen at port {port}: {os.strerror(error.errno or 0)}. Name another port, the same to all."
        ) from error


def _enter(connection: socket.socket, present: dict[int, socket.socket], num_processes: int) -> str | None:
    """Put a process on the list, or say what is wrong with it; what is no process of ours is not answered."""
    words = _line(connection, 5).split()
    if len(words) != 3 or words[0] != GREETING or not (words[1] + words[2]).isdecimal():
        return None
    name, count = int(words[1]), int(words[2])
    fault = None
    if count != num_processes:
        fault = f"process 0 was told of {num_processes} processes, process {name} of {count}: give all the same num_processes"
    elif name in present:
        fault = f"two processes have process_id {name}: give each its own, 0 … {num_processes - 1}"
        name = -name  # told as well
    present[name] = connection
    return fault


def _answer(host: str, port: int, num_processes: int, process_id: int, until: float, timeout_seconds: float | int) -> None:
    where = f"{host}:{port}"
    with _connect(host, port, until, timeout_seconds) as connection:
        connection.sendall(f"{GREETING} {process_id} {num_processes}\n".encode())
        reply = _line(connection, max(0.01, until - time.monotonic()) + 5)  # process 0 says first that somebody is missing
    greeting, _, verdict = reply.partition(" ")
    if greeting != GREETING:
        raise InputError(
            f"what answers at the coordinator's address {where} is not process 0 of this job. Name a free port, the same to all."
        )
    if verdict != "go":
        raise InputError(verdict)


def _connect(host: str, port: int, until: float, timeout_seconds: float | int) -> socket.socket:
    """A connection to process 0, which may start later than this one."""
    while True:
        try:
            return socket.create_connection((host, port), max(0.01, until - time.monotonic()))
        except OSError as error:
            if time.monotonic() + 0.2 > until:
                nobody = f"nobody answers at the coordinator's address {host}:{port} ({error.strerror or error})"
                raise InputError(
                    f"{nobody} within {timeout_seconds:g} seconds. Has process 0 started, and is its machine reachable?"
                ) from error
            time.sleep(0.1)


def _line(connection: socket.socket, seconds: float | int) -> str:
    """What the other side says, up to the end of the line; nothing where it does not."""
    connection.settimeout(seconds)
    said = b""
    try:
        while not said.endswith(b"\n") and len(said) < 2000 and (more := connection.recv(200)):
            said += more
    except OSError:
        return ""
    return said.decode(errors="replace").strip()
