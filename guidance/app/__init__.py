"""From files and flags to the sentence: models, guides, samples, pictures."""
