"""autogen-ext: the model client, whole and streamed, and an agent that calls a tool and answers from it."""

import asyncio
import os

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import ModelFamily, UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient

URL, KEY, REPLY = os.environ["URL"], os.environ["KEY"], os.environ["REPLY"]


def client(name: str) -> OpenAIChatCompletionClient:
    return OpenAIChatCompletionClient(
        model=name,
        base_url=f"{URL}/v1",
        api_key=KEY,
        temperature=0,
        model_info={
            "vision": False,
            "function_calling": True,
            "json_output": True,
            "structured_output": True,
            "family": ModelFamily.UNKNOWN,
        },
    )


async def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


async def main() -> None:
    scripted = client("scripted")
    asked = [UserMessage(content="where to?", source="user")]
    assert (await scripted.create(asked)).content == REPLY
    pieces = [each async for each in scripted.create_stream(asked)]
    assert "".join(each for each in pieces if isinstance(each, str)) == REPLY
    agent = AssistantAgent("guide", model_client=client("caller"), tools=[weather])
    result = await agent.run(task="what is the weather in Bern?")
    assert result.messages[-1].content == "sunny in Bern", result.messages
    await scripted.close()


asyncio.run(main())
print("ok")
