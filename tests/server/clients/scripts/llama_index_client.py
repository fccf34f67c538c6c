"""llama-index-llms-openai-like: chat and completion, whole and streamed, and a tool."""

import os

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

URL, KEY, REPLY = os.environ["URL"], os.environ["KEY"], os.environ["REPLY"]


def llm(name: str, **options: object) -> OpenAILike:
    values = {"is_chat_model": True, "is_function_calling_model": True, "context_window": 512}
    return OpenAILike(
        model=name,
        api_base=f"{URL}/v1",
        api_key=KEY,
        temperature=0,
        max_tokens=100,
        max_retries=0,
        **(values | options),
    )


def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


asked = [ChatMessage(role="user", content="where to?")]
assert llm("scripted").chat(asked).message.content == REPLY
assert "".join(each.delta or "" for each in llm("scripted").stream_chat(asked)) == REPLY
assert llm("scripted", is_chat_model=False).complete("up").text == REPLY
assert (
    "".join(each.delta or "" for each in llm("scripted", is_chat_model=False).stream_complete("up")) == REPLY
)

tool = FunctionTool.from_defaults(fn=weather)
answer = llm("caller").chat_with_tools([tool], user_msg="the weather in Bern?")
[call] = llm("caller").get_tool_calls_from_response(answer)
assert (call.tool_name, call.tool_kwargs) == ("weather", {"city": "Bern"})
print("ok")
