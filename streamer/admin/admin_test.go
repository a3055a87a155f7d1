package admin

import (
	"testing"

	"go.uber.org/goleak"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A list that is given replaces the site's, an empty one removes it, and one that is left out stays.
func TestChange(t *testing.T) {
	list := func(s ...string) *[]string { return &s }
	public := true
	st := site.Site{
		Timezone: "UTC", Rules: site.Rules{Hostnames: []string{"a"}, BlockedPaths: []string{"/x"}},
	}
	applyUpdate(
		&st,
		api.SiteUpdate{Public: &public, Rules: &api.SiteRules{Hostnames: list("b"), BlockedPaths: list()}},
	)
	if !st.Public || st.Timezone != "UTC" || st.Rules.Hostnames[0] != "b" || len(st.Rules.BlockedPaths) != 0 {
		t.Errorf("%+v", st)
	}
	applyUpdate(&st, api.SiteUpdate{})
	if !st.Public || len(st.Rules.Hostnames) != 1 {
		t.Errorf("an empty change: %+v", st)
	}
}
