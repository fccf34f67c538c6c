"""`cairn up`: serve the page and the APIs."""

import re
from enum import StrEnum
from pathlib import Path

import typer

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


class Weights(StrEnum):
    """Formats in which weights are kept."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"


class RedisFailure(StrEnum):
    """What becomes of limits while Redis is away."""

    REFUSE = "refuse"
    ALLOW = "allow"


class SimilarAnswers(StrEnum):
    """Whose answers are given again to questions that mean the same."""

    OFF = "off"
    DETERMINISTIC = "deterministic"
    ALL = "all"


MODELS = typer.Argument(
    None,
    metavar="[MODEL]...",
    help="Models to load at the start, the default one first; otherwise the latest. "
    "Every other model is loaded when it is asked for.",
)
GRPC = typer.Option(
    None, min=0, max=65535, metavar="PORT", help="Serve gRPC too, on this port of the same address."
)
SHARES = typer.Option(
    None,
    metavar="FILE",
    help="TOML file of [[shares]]: weight, priority and KV share of users and roles.",
)
ANSWER_CACHE = typer.Option(
    "",
    metavar="SIZE",
    help="Memory for answers that are given again to who asks the same again, such as 100MB; otherwise none.",
)
SIMILAR_ANSWERS = typer.Option(
    SimilarAnswers.OFF,
    help="Give them also to questions that mean the same: of greedy and seeded chats, or of all.",
)
USAGE_DAYS = typer.Option(
    90, min=7, help="How long each request has a usage row of its own; older ones are summed up by day."
)
DEADLINE = typer.Option(
    None,
    min=0.001,
    metavar="SECONDS",
    help="Refuse at once what would not begin to be answered in this time.",
)
REDIS_FAILURE = typer.Option(
    RedisFailure.REFUSE,
    help="Requests that are limited while Redis (CAIRN_REDIS_URL) does not answer: refuse them, or allow "
    "what this server alone has counted.",
)
MEMORY = typer.Option(
    "",
    metavar="SIZE",
    help="What all loaded models may take, such as 8GB; otherwise 80% of what is free.",
)
PIN = typer.Option([], metavar="MODEL", help="A model that stays in memory once it is loaded.")
SIGN_ON = typer.Option(
    None, metavar="FILE", help="TOML file of an OpenID Connect provider by which people sign in."
)
TELEMETRY = typer.Option(
    None, metavar="FILE", help="TOML file that says which traces are kept, and who else gets them."
)
ALLOWED_HOST = typer.Option(
    [], metavar="NAME", help="A name this server is reached by, such as ai.example.org."
)
TRUST_PROXY = typer.Option(
    False, "--trust-proxy", help="Believe the X-Forwarded headers of a proxy on this machine."
)
PUBLIC_LINKS = typer.Option(
    False, "--public-links", help="Conversations may be shared with anyone who has the link."
)


def up(
    models: list[str] = MODELS,
    host: str = typer.Option("127.0.0.1", help="Address to listen on."),
    port: int = typer.Option(8642, min=0, max=65535, help="Port to listen on; 0: any free one."),
    grpc: int | None = GRPC,
    weights: Weights = typer.Option(Weights.AUTO, help="How weights are kept; few bits are faster."),
    memory: str = MEMORY,
    pin: list[str] = PIN,
    idle_minutes: float = typer.Option(30, min=0, help="A model leaves memory when unused for so long."),
    shares: Path | None = SHARES,
    sign_on: Path | None = SIGN_ON,
    telemetry: Path | None = TELEMETRY,
    deadline: float | None = DEADLINE,
    redis_failure: RedisFailure = REDIS_FAILURE,
    answer_cache: str = ANSWER_CACHE,
    similar_answers: SimilarAnswers = SIMILAR_ANSWERS,
    usage_days: int = USAGE_DAYS,
    open_page: bool = typer.Option(False, "--open", help="Open the page in a browser, signed in."),
    new_key: bool = typer.Option(False, "--new-key", help="Make another admin key and print it."),
    allowed_host: list[str] = ALLOWED_HOST,
    tls_certificate: Path | None = typer.Option(None, help="PEM file of a certificate: serve HTTPS."),
    tls_key: Path | None = typer.Option(None, help="PEM file of its private key."),
    plain_http: bool = typer.Option(False, "--plain-http", help="Let other machines in without TLS."),
    trust_proxy: bool = TRUST_PROXY,
    public_links: bool = PUBLIC_LINKS,
) -> None:
    """Serve the page and the OpenAI-compatible API.

    The first start makes an admin key and prints it once; every start prints a link that signs you in.
    """
    import gc
    import logging

    gc.disable()  # what the start makes stays; `serve` switches it on when all is there
    from cairn.core import load_config
    from cairn.server.config import ServerConfig, SharesConfig, SignOnConfig
    from cairn.server.startup import serve
    from cairn.telemetry import TelemetryConfig

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    if similar_answers is not SimilarAnswers.OFF and not answer_cache:
        raise typer.BadParameter(
            "answers are given again from a cache; give --answer-cache SIZE", param_hint="--similar-answers"
        )
    config = ServerConfig(
        host=host,
        port=port,
        grpc_port=grpc,
        allowed_hosts=tuple(allowed_host),
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        trust_proxy=trust_proxy,
        public_links=public_links,
        shares=load_config(SharesConfig, shares).shares if shares else (),
        sign_on=load_config(SignOnConfig, sign_on) if sign_on else None,
        telemetry=load_config(TelemetryConfig, telemetry) if telemetry else TelemetryConfig(),
        weights=weights.value,
        memory_budget=num_bytes_of(memory) if memory else None,
        pinned_models=tuple(pin),
        idle_seconds=idle_minutes * 60,
        deadline_seconds=deadline,
        redis_failure=redis_failure.value,
        answer_cache_bytes=num_bytes_of(answer_cache, "--answer-cache") if answer_cache else 0,
        usage_days=usage_days,
        answer_cache_similar=similar_answers.value,
    )
    serve(
        config,
        models=models or (),
        new_key=new_key,
        plain_http=plain_http,
        open_page=open_page,
        say=lambda label, text: typer.echo(f"{label:<6} {text}"),
    )


def num_bytes_of(text: str, option: str = "--memory") -> int:
    """8GB, 600M, 2.5G: powers of ten, as all sizes here."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]?)b?", text.strip().lower())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no size; give one such as 8GB or 600MB", param_hint=option)
    return int(float(found[1]) * _UNITS[found[2]])
