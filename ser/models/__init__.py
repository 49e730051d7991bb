"""Networks: a Batch in, logits out. They know neither audio files nor the trainer."""
