package main

import (
	"errors"
	"fmt"
	"log/slog"

	"nowcast/internal/credential"
	"nowcast/internal/warehouse"
)

// Flags about how ClickHouse is reached, of each command that does.
type (
	clickhouseFlags struct {
		Clickhouse string `required:"" secret:"" placeholder:"URL" help:"ClickHouse, as clickhouse://user@host:9000/database; with ?secure=true for TLS."`
		clickhouseAccess
	}
	clickhouseAccess struct {
		ClickhouseCAFile       string `name:"clickhouse-ca-file" placeholder:"FILE" help:"Certificates (PEM) of the authorities that ClickHouse's is from; without it, the system's. All certificates and passwords are read again for each new connection."`
		ClickhouseCertFile     string `placeholder:"FILE" help:"This process's own certificate for ClickHouse (PEM), where ClickHouse asks for one."`
		ClickhouseKeyFile      string `placeholder:"FILE" help:"The key of --clickhouse-cert-file (PEM)."`
		ClickhousePassword     string `hidden:"" secret:"file-flag" help:"The password; only as NOWCAST_CLICKHOUSE_PASSWORD, because other users of a machine can read command lines."`
		ClickhousePasswordFile string `placeholder:"FILE" help:"A file with the password, which is then not in --clickhouse. NOWCAST_CLICKHOUSE_PASSWORD may have the password itself."`
	}
)

// check reports which flags don't go together, an address that can't be, and files that can't be read. With
// the address "" ClickHouse is an embedded one.
func (f *clickhouseAccess) check(dsn string) error {
	switch {
	case dsn == "" && *f != clickhouseAccess{}:
		return errors.New("the --clickhouse-… flags don't apply to an embedded ClickHouse: leave them " +
			"out, or name another with --clickhouse")
	case dsn == "":
		return nil
	case f.ClickhousePassword != "" && f.ClickhousePasswordFile != "":
		return errors.New("NOWCAST_CLICKHOUSE_PASSWORD and --clickhouse-password-file are both given: " +
			"give one")
	}
	db, err := f.open(slog.New(slog.DiscardHandler), dsn)
	if err != nil {
		return err
	}
	return db.Close()
}

// open opens ClickHouse. What can't be read later, when a connection needs it, is logged.
func (f *clickhouseAccess) open(log *slog.Logger, dsn string) (*warehouse.DB, error) {
	onError := func(err error) { log.Error("credentials for ClickHouse", "error", err) }
	var c warehouse.Credentials
	var err error
	if files := (credential.Files{CA: f.ClickhouseCAFile, Cert: f.ClickhouseCertFile,
		Key: f.ClickhouseKeyFile}); files != (credential.Files{}) {
		if c.TLS, err = credential.OpenTLS(files, onError); err != nil {
			return nil, fmt.Errorf("certificates for ClickHouse: %w", err)
		}
	}
	if f.ClickhousePassword != "" {
		c.Password = credential.Fixed(f.ClickhousePassword)
	}
	if f.ClickhousePasswordFile != "" {
		if c.Password, err = credential.OpenSecret(f.ClickhousePasswordFile, onError); err != nil {
			return nil, fmt.Errorf("--clickhouse-password-file: %w", err)
		}
	}
	return warehouse.OpenWith(dsn, c)
}

// warehouse opens ClickHouse; see watchWarehouse. The wait for it is logged to log: an aggregator in the same
// process logs it by itself.
func (h *host) warehouse(f *clickhouseAccess, dsn string, log *slog.Logger) (*warehouse.DB, error) {
	db, err := f.open(h.log, dsn)
	if err != nil {
		return nil, err
	}
	h.hideDSN(dsn)
	h.watchWarehouse(db, log)
	return db, nil
}
