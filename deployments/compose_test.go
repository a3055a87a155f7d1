package deployments

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// composeFile is docker-compose.yml, as far as tests look at it.
type composeFile struct {
	Services map[string]service
	Networks map[string]struct {
		IPAM struct{ Config []struct{ Subnet string } }
	}
}

type service struct {
	Command     any
	Environment map[string]string
	Ports       []string
	ReadOnly    bool     `yaml:"read_only"`
	CapDrop     []string `yaml:"cap_drop"`
	CapAdd      []string `yaml:"cap_add"`
	SecurityOpt []string `yaml:"security_opt"`
	PidsLimit   int      `yaml:"pids_limit"`
	MemLimit    string   `yaml:"mem_limit"`
	Privileged  bool
	NetworkMode string `yaml:"network_mode"`
	Networks    map[string]struct {
		IPv4 string `yaml:"ipv4_address"`
	}
}

func readCompose(t *testing.T) (c composeFile) {
	t.Helper()
	if err := yaml.Unmarshal(read(t, "../docker-compose.yml"), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// byDefault is a value whose variable isn't set.
func byDefault(value string) string {
	inner, ok := strings.CutPrefix(value, "${")
	if _, fallback, found := strings.Cut(strings.TrimSuffix(inner, "}"), ":-"); ok && found {
		return fallback
	}
	return value
}

// No container can write to its image, gain privileges, or take the machine's processes and memory; only the
// proxies are reachable from outside, and nothing for operators is.
func TestComposeIsHardened(t *testing.T) {
	compose := readCompose(t)
	if len(compose.Services) < 8 {
		t.Fatalf("%d services", len(compose.Services))
	}
	proxy := compose.Services["proxy"].Networks["default"].IPv4
	for name, s := range compose.Services {
		if !s.ReadOnly || s.Privileged || s.NetworkMode != "" || !slices.Equal(s.CapDrop, []string{"ALL"}) ||
			!slices.Contains(s.SecurityOpt, "no-new-privileges:true") || s.PidsLimit <= 0 ||
			s.MemLimit == "" {
			t.Errorf("%s isn't hardened: %+v", name, s)
		}
		if len(s.CapAdd) > 0 && (name != "caddy" || !slices.Equal(s.CapAdd, []string{"NET_BIND_SERVICE"})) {
			t.Errorf("%s has capabilities: %q", name, s.CapAdd)
		}
		if len(s.Ports) > 0 && name != "caddy" && !slices.Equal(s.Ports, []string{"127.0.0.1:8080:8080"}) {
			t.Errorf("%s is reachable at %q", name, s.Ports)
		}
		words, _ := s.Command.([]any)
		if len(words) == 0 {
			continue
		}
		if ops := byDefault(s.Environment["NOWCAST_OPS_LISTEN"]); !strings.HasPrefix(ops, "127.0.0.1:") {
			t.Errorf("%s has its address for operators at %q", name, ops)
		}
		trusted := s.Environment["NOWCAST_TRUSTED_PROXIES"]
		if web := words[0] == "ingest" || words[0] == "streamer"; web && (proxy == "" || trusted != proxy) {
			t.Errorf("%s trusts %q, and the proxy is %q", name, trusted, proxy)
		}
	}
	for _, n := range compose.Networks["default"].IPAM.Config {
		if !strings.Contains(string(read(t, "nginx/nowcast.conf")), "set_real_ip_from "+n.Subnet+";") {
			t.Errorf("nginx doesn't know the network %s, which Caddy is in", n.Subnet)
		}
	}
}

// A password, key or secret that somebody forgot to set stops the start, with a hint, and never has a known
// value.
func TestComposeHasNoDefaultPasswords(t *testing.T) {
	text := string(read(t, "../docker-compose.yml"))
	variables := regexp.MustCompile(`\$\{?(\w*(?:PASSWORD|KEY|SECRET|TOKEN)\w*)([^}]*)\}?`).
		FindAllStringSubmatch(text, -1)
	found := 0
	for _, v := range variables {
		if strings.HasPrefix(v[0], "${") {
			found++
			if !strings.HasPrefix(v[2], ":?") || len(v[2]) < 10 {
				t.Errorf("%s has no hint", v[0])
			}
		}
	}
	if found < 3 {
		t.Errorf("%d variables with passwords", found)
	}
	for _, line := range strings.Split(text, "\n") {
		if m := regexp.MustCompile(`(?i)(password|secret|_key)\w*: +[^$ ]`).FindString(line); m != "" &&
			!strings.HasPrefix(strings.TrimSpace(line), "#") {
			t.Errorf("a secret is in the file: %s", line)
		}
	}
}

// The image offers the public port only; the address for operators stays on the container's loopback.
func TestImageExposesOnePort(t *testing.T) {
	text := string(read(t, "Dockerfile"))
	var exposed []string
	for _, line := range strings.Split(text, "\n") {
		if ports, ok := strings.CutPrefix(line, "EXPOSE "); ok {
			exposed = append(exposed, strings.Fields(ports)...)
		}
	}
	if !slices.Equal(exposed, []string{"8080"}) || strings.Contains(text, "OPS_LISTEN") {
		t.Errorf("exposed %q in\n%s", exposed, text)
	}
}
