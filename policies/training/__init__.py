"""Training of policies: the recipe, its data, tokenizer, optimisers and log, and how a small model is widened."""
