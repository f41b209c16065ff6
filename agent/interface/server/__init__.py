"""``stepwell serve``: the planner behind HTTP, for programs that speak to OpenAI's or Anthropic's models."""
