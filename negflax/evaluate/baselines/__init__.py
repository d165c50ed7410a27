"""What a model has to beat: popularity, Markov chains, item rates, heuristic filters."""
