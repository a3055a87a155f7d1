package access

import (
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nowcast/internal/site"
	"nowcast/streamer/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const adminSecret = "nck_an-operators-own-key"

// operatorOnly is an access control that knows the operator's key and nothing else.
func operatorOnly(t testing.TB, secret string) *Control {
	t.Helper()
	a, err := New(Config{AdminKey: secret}, site.NewRegistry(nil, slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	a.signer.keys = fixedKeys{}
	return a
}

// fixedKeys is the secret of a cluster.
type fixedKeys struct{}

func (fixedKeys) SigningKey(purpose string) [32]byte { return sha256.Sum256([]byte(purpose)) }

func (k fixedKeys) AcceptedKeys(purpose string) [][32]byte { return [][32]byte{k.SigningKey(purpose)} }

// Before the cluster's secret is known nothing is valid, also what is signed with a key of zeroes.
func TestNothingIsValidWithoutSecret(t *testing.T) {
	a := operatorOnly(t, adminSecret)
	a.signer.keys = a.sites
	value := a.signer.ticketValue(operatorsTicket(time.Now().Add(time.Minute)))
	if _, ok := a.signer.readTicket(value, time.Now()); ok {
		t.Error("a ticket is valid")
	}
}

func operatorsTicket(expires time.Time) ticket {
	by := api.Principal{Kind: api.KeyPrincipal, ID: operatorID}
	return ticket{principal: by, expires: expires, sites: []ticketSite{{"own.example.com", 7}}}
}

// A new operator's key invalidates what the former key signed.
func TestOperatorsTicketEndsWithItsKey(t *testing.T) {
	now := time.Now()
	former := operatorOnly(t, adminSecret)
	value := former.signer.ticketValue(operatorsTicket(now.Add(time.Minute)))
	if _, ok := former.signer.readTicket(value, now); !ok {
		t.Error("an operator's ticket isn't valid")
	}
	if _, ok := operatorOnly(t, "nck_the-next-operators-key").signer.readTicket(value, now); ok {
		t.Error("the ticket of the former operator's key is valid")
	}
}

func TestLimiter(t *testing.T) {
	l := NewLimiter(Limits{Viewers: 5, PerAddress: 2, PerKey: 3})
	key := func(id string) []api.Principal { return []api.Principal{{Kind: api.KeyPrincipal, ID: id}} }
	for _, row := range []struct {
		address    string
		principals []api.Principal
		err        error
	}{
		{"192.0.2.1", nil, nil},
		{"::ffff:192.0.2.1", nil, nil},
		{"192.0.2.1", nil, ErrAddressLimit},
		{"2001:db8:1:2::1", key("a"), nil},
		{"2001:db8:1:2:3::1", key("a"), nil},
		{"2001:db8:1:2:4::1", key("b"), ErrAddressLimit},
		{"127.0.0.1", key("a"), nil},
		{"127.0.0.1", key("a"), ErrFull},
	} {
		if _, _, err := l.Acquire(row.address, row.principals); !errors.Is(err, row.err) {
			t.Errorf("%s %v: %v", row.address, row.principals, err)
		}
	}
	l = NewLimiter(Limits{PerKey: 1})
	addr, principal, err := l.Acquire("127.0.0.1", key("a"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Acquire("127.0.0.2", key("a")); !errors.Is(err, ErrPrincipalLimit) {
		t.Error(err)
	}
	l.Release(addr, principal)
	if len(l.counts) != 0 || l.all != 0 {
		t.Errorf("%v remain", l.counts)
	}
	l.Stop()
	if _, _, err := l.Acquire("127.0.0.1", nil); !errors.Is(err, ErrStopping) {
		t.Error(err)
	}
}

// Only what was signed is read, and it is read as what it was.
func FuzzTicket(f *testing.F) {
	s := operatorOnly(f, adminSecret).signer
	now := time.Unix(1_800_000_000, 0)
	valid := s.ticketValue(operatorsTicket(now.Add(time.Minute)))
	base64Text := func(s string) string { return strictBase64.EncodeToString([]byte(s)) }
	for _, v := range []string{
		valid, valid[:len(valid)-1], "." + valid, "..", "",
		base64Text("k operator 9999999999999 own.example.com=7") + ".AAAA", base64Text("k operator") + ".",
	} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if got, ok := s.readTicket(value, now); ok && s.ticketValue(got) != value {
			t.Errorf("%q is read as %+v", value, got)
		}
	})
}

func FuzzCookie(f *testing.F) {
	s := operatorOnly(f, adminSecret).signer
	now := time.Unix(1_800_000_000, 0)
	for _, v := range []string{
		s.cookieValue(purposeSession, operatorID, now.Add(time.Minute)),
		"operator.1900000000.AAAA", "...", "\x00.-1.",
	} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, value string) {
		id, _, ok := s.readCookieValue(purposeSession, value, now)
		if ok && (id != operatorID || !strings.HasPrefix(value, "operator.")) {
			t.Errorf("%q is read as %q", value, id)
		}
		if id, _, ok := s.readCookieValue(purposeLinkCookie, value, now); ok {
			t.Errorf("%q is read as a link's %q", value, id)
		}
	})
}

// Garbage in any place of a request that may hold a credential is no credential.
func FuzzCredentials(f *testing.F) {
	a := operatorOnly(f, adminSecret)
	f.Add("nowcast_session=a.b.c; nowcast_link_x=..", "ticket=%zz&share=ncl_", "Bearer nck_x", "null")
	f.Add("nowcast_link_=", "ticket=a.b&ticket=&share=%00", "bearer", "http://[::1")
	f.Fuzz(func(t *testing.T, cookie, query, authorization, origin string) {
		r := httptest.NewRequest(http.MethodGet, "/api/events", nil)
		r.URL = &url.URL{Path: "/api/events", RawQuery: query}
		r.Header = http.Header{"Cookie": {cookie}, "Authorization": {authorization}, "Origin": {origin}}
		if got := a.credentials(r); len(got) > 0 && !strings.Contains(authorization, adminSecret) {
			t.Errorf("cookie %q, query %q, authorization %q: %+v", cookie, query, authorization, got)
		}
	})
}
