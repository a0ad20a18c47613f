#!/bin/sh
# PostgreSQL's image runs this once, on an empty volume, as the superuser: the application's owner with its database,
# and the role that emc-cdc connects as. That one may log in and replicate; what it may read is owner.sql's business.
set -eu

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username postgres \
    --set owner_password="$(cat /run/secrets/owner_password)" \
    --set emc_cdc_password="$(cat /run/secrets/emc_cdc_password)" <<'SQL'
CREATE ROLE owner LOGIN PASSWORD :'owner_password';
CREATE ROLE emc_cdc LOGIN REPLICATION PASSWORD :'emc_cdc_password';
CREATE DATABASE motcua OWNER owner;
SQL
