package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"nowcast/streamer/api"
)

// serverFlags name a running Nowcast and the key to use it with.
type serverFlags struct {
	Server  string `default:"http://127.0.0.1:8080" placeholder:"URL" help:"The server to ask (${default})."`
	Key     string `secret:"" placeholder:"KEY" help:"The key to use; without it, the admin key that the first start left in the data dir."`
	DataDir string `default:"./.nowcast" placeholder:"DIR" help:"Where to find the admin key (${default})."`
}

// call sends request as JSON with the key and decodes the response; either may be nil. An error response
// becomes an error with the server's sentence.
func (f *serverFlags) call(ctx context.Context, method, path string, request, response any) error {
	base, err := url.Parse(f.Server)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return fmt.Errorf("--server %s is no address: give one as http://127.0.0.1:8080", f.Server)
	}
	key := f.Key
	if key == "" {
		if key, err = readAdminKey(f.DataDir); err != nil {
			return err
		}
	}
	if key == "" {
		return fmt.Errorf("there is no key: give one with --key, " +
			"or with --data-dir the data dir of `nowcast all`, which keeps one")
	}
	var body io.Reader
	if request != nil {
		b, err := json.Marshal(request)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(f.Server, "/")+path, body)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	if request != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%s doesn't answer (%w): start it with `nowcast all`, "+
			"or name another with --server", f.Server, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", f.Server, err)
	}
	if res.StatusCode >= 300 {
		var e api.Error
		if json.Unmarshal(b, &e) != nil || e.Error == "" {
			e.Error = fmt.Sprintf("%s answered %s; is that the address of a Nowcast server?", f.Server,
				res.Status)
		}
		return fmt.Errorf("%s", e.Error)
	}
	if response == nil {
		return nil
	}
	if err := json.Unmarshal(b, response); err != nil {
		return fmt.Errorf("read the answer of %s: %w", f.Server, err)
	}
	return nil
}
