"""Reports over all dossiers: gathering from the live database and from the log, in bounded memory."""
