"""langchain-openai: whole, streamed, tools there and back, a form, embeddings' absence, the Responses API."""

import os

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

URL, KEY, REPLY = os.environ["URL"], os.environ["KEY"], os.environ["REPLY"]


def model(name: str, **options: object) -> ChatOpenAI:
    return ChatOpenAI(model=name, base_url=f"{URL}/v1", api_key=KEY, temperature=0, max_retries=0, **options)


def say_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


weather = tool("weather")(say_weather)


class Animal(BaseModel):
    """An animal."""

    legs: int


whole = model("scripted").invoke("where to?")
assert whole.content == REPLY, whole
assert whole.usage_metadata["output_tokens"] > 0
chunks = list(model("scripted", stream_usage=True).stream("where to?"))
assert "".join(chunk.content for chunk in chunks) == REPLY
assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) > 0

asked = [HumanMessage("what is the weather in Bern?")]
called = model("caller").bind_tools([weather]).invoke(asked)
[call] = called.tool_calls
assert (call["name"], call["args"]) == ("weather", {"city": "Bern"}), call
asked += [called, ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])]
assert model("scripted").bind_tools([weather]).invoke(asked).content == REPLY
forced = model("caller").bind_tools([weather], tool_choice="weather").invoke("go")
assert forced.tool_calls[0]["name"] == "weather"

form = model("scripted", max_tokens=40).with_structured_output(
    {
        "title": "a",
        "type": "object",
        "properties": {"ok": {"const": True}},
        "required": ["ok"],
        "additionalProperties": False,
    },
    method="json_schema",
)
assert form.invoke("say so") == {"ok": True}

answered = model("scripted", use_responses_api=True).invoke("where to?")
assert answered.text == REPLY or answered.text() == REPLY, answered
print("ok")
