"""Model servers: the HTTP client, the OpenAI protocol, and what servers refuse."""
