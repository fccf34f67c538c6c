"""litellm as a client: OpenAI's chat whole and streamed, tools, Responses, and Anthropic's messages."""

import os
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # nothing is fetched

import litellm

litellm.telemetry = False
URL, KEY, REPLY = os.environ["URL"], os.environ["KEY"], os.environ["REPLY"]
ASK: dict[str, Any] = {
    "messages": [{"role": "user", "content": "where to?"}],
    "temperature": 0,
    "num_retries": 0,
}
OPENAI = {"api_base": f"{URL}/v1", "api_key": KEY}
ANTHROPIC = {"api_base": URL, "api_key": KEY}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]

for model, where in (("openai/scripted", OPENAI), ("anthropic/scripted", ANTHROPIC)):
    whole = litellm.completion(model=model, max_tokens=100, **where, **ASK)
    assert whole.choices[0].message.content == REPLY, whole
    assert whole.usage.completion_tokens > 0
    chunks = litellm.completion(model=model, max_tokens=100, stream=True, **where, **ASK)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == REPLY
    caller = model.replace("scripted", "caller")
    called = litellm.completion(model=caller, max_tokens=100, tools=TOOLS, **where, **ASK)
    [call] = called.choices[0].message.tool_calls
    assert call.function.name == "weather"
    assert called.choices[0].finish_reason == "tool_calls"
    history = [
        *ASK["messages"],
        called.choices[0].message.model_dump(),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    final = litellm.completion(
        model=model, max_tokens=100, tools=TOOLS, **where, **(ASK | {"messages": history})
    )
    assert final.choices[0].message.content == REPLY

response = litellm.responses(model="openai/scripted", input="where to?", **OPENAI)
assert response.output[0].content[0].text == REPLY, response
refusal = ""
try:
    litellm.completion(model="openai/nobody", **OPENAI, **ASK)
except litellm.NotFoundError as error:
    refusal = str(error)
assert "nobody" in refusal
print("ok")
