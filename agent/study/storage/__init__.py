"""What a results file is made of beside its tables: packed graphs, digests of models, edited problems, errors."""
