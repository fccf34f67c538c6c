"""What can be set about the server. The defaults are for one machine and its owner."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from cairn.core import Config
from cairn.engine.config import ShareConfig, Weights
from cairn.telemetry import TelemetryConfig


class SignOnConfig(Config):
    """An identity provider that speaks OpenID Connect: `cairn up --sign-on FILE`."""

    issuer: str = Field(min_length=1, description="its address, exactly as it calls itself")
    client_id: str = Field(min_length=1, description="what this server is called there")
    client_secret: str = Field(
        default="", repr=False, description="the secret it gave; empty: a public client, by PKCE alone"
    )
    name: str = Field(default="Single sign-on", description="what the sign-in page calls it")
    scopes: tuple[str, ...] = Field(
        default=("openid", "profile", "email"), description="what it is asked to tell"
    )
    roles: tuple[str, ...] = Field(
        default=("member",), min_length=1, description="roles of who signs in for the first time"
    )
    groups_claim: str = Field(default="groups", description="the claim that names somebody's groups")
    groups: dict[str, str] = Field(
        default={},
        description="values of that claim, and for each the group here: who has it is put in at every "
        "sign-in, who has not is taken out",
    )


class ServerConfig(Config):
    """Limits, addresses and lifetimes of the HTTP server."""

    host: str = Field(default="127.0.0.1", description="address to listen on; loopback unless said otherwise")
    port: int = Field(default=8642, ge=0, le=65535, description="port to listen on; 0: any free one")
    grpc_port: int | None = Field(
        default=None, ge=0, le=65535, description="port for gRPC, on the same address; 0: any; empty: none"
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="host names, besides localhost and IP addresses, that requests may name"
    )
    tls_certificate: Path | None = Field(default=None, description="PEM file of the certificate, for HTTPS")
    tls_key: Path | None = Field(default=None, description="PEM file of the certificate's private key")
    trust_proxy: bool = Field(
        default=False, description="believe X-Forwarded-* headers of a reverse proxy on this machine"
    )
    max_body_bytes: int = Field(
        default=10_000_000, ge=1, description="largest request body; longer ones are refused with 413"
    )
    body_seconds: float = Field(
        default=60.0, gt=0, description="longest time a client may take to send its body"
    )
    max_upload_bytes: int = Field(
        default=1 << 28, ge=1, description="largest file that may be uploaded into a collection"
    )
    upload_seconds: float = Field(
        default=3600.0, gt=0, description="longest time a client may take to upload a file"
    )
    request_seconds: float = Field(default=600.0, gt=0, description="longest time one completion may take")
    write_seconds: float = Field(
        default=60.0, gt=0, description="longest time a client may leave written bytes unread"
    )
    keep_alive_seconds: float = Field(
        default=15.0, gt=0, description="a comment is sent on a silent event stream this often"
    )
    drain_seconds: float = Field(
        default=30.0, ge=0, description="at shutdown, longest wait for running requests"
    )
    max_waiting: int = Field(
        default=256, ge=0, description="requests that may wait for the engine before 429 is answered"
    )
    shares: tuple[ShareConfig, ...] = Field(
        default=(), description="what users and roles get beside others; the first that fits holds"
    )
    max_prompts: int = Field(
        default=256, ge=1, description="most prompts times samples in one completions request"
    )
    memory_budget: int | None = Field(
        default=None,
        ge=1_000_000,
        description="memory that all loaded models may take, weights and key-value caches; the longest "
        "unused leaves first; empty: 80 % of what is free without them, measured at every load",
    )
    idle_seconds: float | None = Field(
        default=1800.0,
        ge=0,
        description="time after its last request at which a model leaves memory; empty: only when another "
        "one needs the room",
    )
    pinned_models: tuple[str, ...] = Field(
        default=(), description="names of models that stay in memory once they are loaded"
    )
    load_patience_seconds: float = Field(
        default=300.0, gt=0, description="longest time a load waits for busy models to make room"
    )
    kv_cache_bytes: int | None = Field(
        default=None,
        ge=1_000_000,
        description="size of each model's key-value cache; empty: what max_num_seqs full contexts need, "
        "at most half of what the budget leaves beside the weights, but one full context where it can be had",
    )
    adapter_bytes: int = Field(
        default=1_000_000_000,
        ge=1,
        description="memory for low-rank adapters of each model; the longest unused leaves first",
    )
    weights: Weights = Field(
        default="auto",
        description="how models' weights are kept: auto, float32, bfloat16, or rounded to int8 (on a CPU), "
        "fp8 (on a GPU) or int4, which is faster and less exact",
    )
    draft_models: dict[str, str] = Field(
        default={},
        description="names of models, and for each a smaller one of the same vocabulary that guesses ahead",
    )
    answer_cache_bytes: int = Field(
        default=0,
        ge=0,
        description="memory for answers to greedy or seeded chats, given again to the person who asks the "
        "same again; 0: every request is computed",
    )
    answer_cache_seconds: float = Field(default=3600.0, gt=0, description="how long such an answer is kept")
    answer_cache_similar: Literal["off", "deterministic", "all"] = Field(
        default="off",
        description="whether a question that means the same as an earlier one of the same person gets its "
        "answer: of greedy and seeded requests, or of all; the header x-cairn-cache says otherwise for one",
    )
    batch_requests: int = Field(
        default=4, ge=1, le=1000, description="requests of batches made at once, behind all others"
    )
    batch_hold_seconds: float = Field(
        default=30.0,
        gt=0,
        description="time after which another server over the same database takes over the batches of one "
        "that says nothing any more",
    )
    response_days: float = Field(
        default=30.0, gt=0, description="how long responses are kept that later ones may go on from"
    )
    public_links: bool = Field(
        default=False,
        description="whether people may show a conversation to anyone who has the link, signed in or not",
    )
    session_seconds: float = Field(
        default=30 * 86400.0, gt=0, description="how long a browser's sign-in lasts unused"
    )
    session_max_seconds: float = Field(
        default=90 * 86400.0, gt=0, description="longest time a browser's sign-in lasts, used or not"
    )
    recheck_seconds: float = Field(
        default=3.0, gt=0, description="how often a stream looks whether its key or session is still good"
    )
    reserve_tokens: int = Field(
        default=1024,
        ge=1,
        description="tokens that limits and budgets take a request to write when it names no maximum; put "
        "right when it has ended",
    )
    usage_days: int = Field(
        default=90,
        ge=7,
        description="how long each request has a usage row of its own; older ones are summed up by day",
    )
    deadline_seconds: float | None = Field(
        default=None,
        gt=0,
        description="requests that would not begin to be answered in this time are refused at once; the "
        "header x-cairn-deadline-ms says otherwise for one; empty: none",
    )
    redis_failure: Literal["refuse", "allow"] = Field(
        default="refuse",
        description="requests that are limited while Redis does not answer: refuse them, or allow what this "
        "server alone has counted",
    )
    telemetry: TelemetryConfig = Field(
        default=TelemetryConfig(), description="which traces are kept, and who else gets them"
    )
    sign_on: SignOnConfig | None = Field(
        default=None, description="an identity provider by which people sign in; empty: none"
    )
    sign_in_link_seconds: float = Field(
        default=15 * 60.0, gt=0, description="lifetime of a one-time sign-in link"
    )
    sign_in_failures: int = Field(
        default=10,
        ge=1,
        description="failed sign-ins in five minutes, of an address and in strange browsers of an account",
    )


class SharesConfig(Config):
    """A file that says what users and roles get: `cairn up --shares FILE`."""

    shares: tuple[ShareConfig, ...] = Field(
        description="what users and roles get beside others; the first that fits holds"
    )
