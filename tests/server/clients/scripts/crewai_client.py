"""crewai: a crew of one agent with one task, whose model is this server."""

import os

os.environ |= {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "OTEL_SDK_DISABLED": "true",
    "CREWAI_TRACING_ENABLED": "false",
}

from crewai import LLM, Agent, Crew, Task

URL, KEY, FINAL = os.environ["URL"], os.environ["KEY"], os.environ["FINAL"]
llm = LLM(model="openai/finisher", base_url=f"{URL}/v1", api_key=KEY, temperature=0)
assert llm.call("go") == FINAL
agent = Agent(role="guide", goal="say the weather", backstory="knows the sky", llm=llm)
task = Task(description="Say the weather in Bern.", expected_output="a sentence", agent=agent)
assert Crew(agents=[agent], tasks=[task]).kickoff().raw == "It is sunny."
print("ok")
