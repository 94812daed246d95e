"""Rankers for other frameworks, one file each; a file imports its framework, which its user has installed.

Scores are those of `Reranker`: log-odds of relevance, from which a probability is one sigmoid away.
"""
