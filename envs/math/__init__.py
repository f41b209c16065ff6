"""Mathematics with answers in LaTeX: GSM8K, MATH, AIME and files of one's own."""
