"""A database's catalog and samples → a draft configuration with its reasons and its open questions. Pure."""
