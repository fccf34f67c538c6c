"""What the engine says of the times of a request, as spans: waiting, reading, writing. None for a token."""

from time import perf_counter_ns

from cairn.core.chat import Usage
from cairn.engine import Timing
from cairn.telemetry import Span
from cairn.telemetry.spans import Attributes


def tell_timing(span: Span, timing: Timing, asked: int, usage: Usage) -> None:
    """Add to a span what the engine did since it was asked. A request that was cut off has fewer parts."""
    ended = timing.ended or perf_counter_ns()
    span.add("queue", asked, timing.admitted or ended)
    if not timing.admitted:
        return
    read: Attributes = {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
    }
    span.add("prefill", timing.admitted, timing.first_token or ended, read)
    if not timing.first_token:
        return
    seconds = (ended - timing.first_token) / 1e9
    written: Attributes = {"gen_ai.usage.output_tokens": usage.completion_tokens}
    if seconds > 0 and usage.completion_tokens > 1:
        written["cairn.tokens_per_second"] = round((usage.completion_tokens - 1) / seconds, 1)
    if timing.num_preemptions:
        written["cairn.preemptions"] = timing.num_preemptions
    span.add("decode", timing.first_token, ended, written)
