package main

import (
	"fmt"

	"nowcast/ingest"
)

// limitFlags say which beacons aren't taken.
type limitFlags struct {
	AddressRate  float64 `default:"100" placeholder:"N" help:"Events a second that one address (an IPv6 /64) may send, 0 for any number; more get 429 (${default})."`
	AddressBurst float64 `placeholder:"N" help:"How many of them at once; without it, five seconds' worth."`
	SiteRate     float64 `placeholder:"N" help:"Events a second that one site may get from each process, 0 for any number; more get 429 (0)."`
	SiteBurst    float64 `placeholder:"N" help:"How many of them at once; without it, five seconds' worth."`
	RespectDNT   bool    `name:"respect-dnt" help:"Don't count who asks for that by Do Not Track (DNT: 1) or Global Privacy Control (Sec-GPC: 1)."`
}

func (f *limitFlags) validate() error {
	for name, l := range map[string]ingest.Limit{"address": f.address(), "site": f.site()} {
		if err := l.Validate(); err != nil {
			return fmt.Errorf("--%s-rate and --%[1]s-burst: %w", name, err)
		}
	}
	return nil
}

func (f *limitFlags) address() ingest.Limit {
	return ingest.Limit{Rate: f.AddressRate, Burst: f.AddressBurst}
}
func (f *limitFlags) site() ingest.Limit { return ingest.Limit{Rate: f.SiteRate, Burst: f.SiteBurst} }

// apply adds them to ingest's configuration.
func (f *limitFlags) apply(cfg *ingest.Config) {
	cfg.AddressLimit, cfg.SiteLimit = f.address(), f.site()
	cfg.RespectOptOut = f.RespectDNT
}
