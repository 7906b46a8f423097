"""The HTTP interface of `fedlora serve`, as OpenAI and vLLM spell it."""
