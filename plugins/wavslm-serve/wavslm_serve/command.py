"""`wavslm serve`: load a model, open an address, and talk."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from typing import Annotated, Any

import typer

from wavslm_core.plugin import CheckpointError, NoCodecError, WavslmError, choose_device, echo
from wavslm_serve.gate import LOOPBACK


def serve(
    model: Annotated[
        str, typer.Argument(help="Language model: a folder, a run's folder, a name, or a hub id.")
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: one that is free.")] = 8998,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen at. Another than localhost lets others in: nothing is encrypted."
        ),
    ] = "localhost",
    names: Annotated[
        list[str] | None,
        typer.Option("--name", help="A name by which the server is reached, such as that of an HTTPS proxy."),
    ] = None,
    max_sessions: Annotated[
        int, typer.Option(min=1, max=1000, help="People at a time; fewer where the machine is too slow.")
    ] = 4,
    codec: Annotated[str | None, typer.Option(help="Another codec than the model names.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Packed weights for speed on CPUs: fp32, bf16, int8, or auto.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="What makes the steps: torch, onnxruntime, inductor, or auto, the fastest here."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads that compute; by default one, or all if those are faster."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto (the first CUDA GPU, else the CPU), cpu, cuda, cuda:1, … or mps.")
    ] = "auto",
) -> None:
    """Let people talk with a language model: a page for browsers, and an interface over WebSockets.

    Stop it with Ctrl-C. The interface is described in the README of wavslm-serve.
    """
    # The address first: it is known at once whether it is free.
    sockets = _listening(host, port)
    # Threads that wait for work in a loop take the core from the one that has it if anything else runs, and
    # steps take a hundred times as long. This is read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from wavslm_core.plugin import Codec, SpeechLM, cpu_only
    from wavslm_serve.conversation import Limits
    from wavslm_serve.scheduler import Scheduler
    from wavslm_serve.server import make_server
    from wavslm_serve.trial import fastest_threads

    target = choose_device(device, option="--device", cpu_only=cpu_only(weights, engine))
    given = None if codec is None else Codec.load(codec, device=target)
    try:
        speech_lm = SpeechLM.load(model, codec=given, device=target)
    except NoCodecError as error:
        raise CheckpointError(f"{error.what}; give another one with --codec") from error
    if weights is not None or engine is not None:
        speech_lm = speech_lm.for_inference(weights=weights or "fp32", engine=engine or "torch")
    if threads is None:
        fastest_threads(speech_lm)
    else:
        torch.set_num_threads(threads)
    scheduler = Scheduler(speech_lm, Limits(max_sessions=max_sessions))
    scheduler.start()
    if scheduler.load > 1:
        echo(
            f"warning: this machine needs {scheduler.load:.1f} s for a second of speech: it will falter",
            err=True,
        )
    address = f"http://{f'[{host}]' if ':' in host else host}:{sockets[0].getsockname()[1]}"
    if host not in LOOPBACK:
        echo(
            f"warning: whoever can reach {host} can use this server and hear what the model says. Nothing is "
            "encrypted, and browsers give a microphone to pages at localhost and https:// addresses alone: "
            "put a proxy with HTTPS before it, and give its name with --name",
            err=True,
        )
    for listening in sockets:
        # Whoever comes from now on is answered.
        listening.listen(128)
    echo(f"{address} for up to {scheduler.max_sessions} at a time; Ctrl-C stops it")
    # The server has ended all sessions by then, and lets the signal go on.
    with suppress(KeyboardInterrupt):
        make_server(scheduler, host=host, names=names or ()).run(sockets=sockets)
    echo("stopped")


def _listening(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen at all addresses of a host. Raises: WavslmError when there is none."""
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            # All have the port that the first one found.
            free = sockets[0].getsockname()[1] if sockets else port
            try:
                sockets.append(_bound(family, (address[0], free, *address[2:])))
            except OSError as error:
                # A machine without IPv6 has names for addresses of it all the same.
                if not sockets or error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
    except OSError as error:
        for listening in sockets:
            listening.close()
        taken = error.errno == errno.EADDRINUSE
        remedy = "give another --port, or 0 for a free one" if taken else "give another --host or --port"
        raise WavslmError(f"nothing can listen at {host}, port {port}: {error.strerror}; {remedy}") from None
    return sockets


def _bound(family: int, address: tuple[Any, ...]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
