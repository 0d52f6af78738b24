"""The nouns that all layers share; they import nothing."""
