"""Reconciliation with EMC (guide, Appendix 3): the ledger beside the extract that EMC hands out."""
