"""What is recorded of requests, how long it is kept, and where it is sent: `cairn up --telemetry FILE`."""

import re

from pydantic import Field, field_validator

from cairn.core import Config


class TelemetryConfig(Config):
    """Traces: which are kept, for how long, with what in them, and who else gets them."""

    stored_bytes: int = Field(
        default=256_000_000,
        ge=0,
        description="disk for traces, the oldest leave first; 0: none are stored",
    )
    stored_days: float = Field(default=14.0, gt=0, description="how long traces are kept")
    rate: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="share of traces that is kept, by their ids, so that servers agree; what failed or was "
        "slow is kept always",
    )
    per_second: float = Field(
        default=20.0,
        gt=0,
        description="most traces a second that are kept beside those that failed or were slow, so that a "
        "flood costs no more than so many",
    )
    slow_seconds: float = Field(default=10.0, gt=0, description="time from which on a request is slow")
    content: bool = Field(
        default=False, description="record what was asked and answered as well, after the redactions"
    )
    redactions: tuple[str, ...] = Field(
        default=(),
        description="regular expressions of what is blotted out in recorded contents, beside e-mail "
        "addresses, card and account numbers, and keys",
    )
    endpoint: str = Field(
        default="",
        description="OTLP/HTTP receiver that gets the kept traces, such as http://localhost:4318; empty: "
        "what OTEL_EXPORTER_OTLP_ENDPOINT says, and without that nothing leaves this machine",
    )

    @field_validator("redactions")
    @classmethod
    def _compiles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return value
