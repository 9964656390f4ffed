"""What a tokenizer does to a clip, as pictures and charts."""
