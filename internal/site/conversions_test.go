package site

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

const shop = "shop.example.com"

func (w *world) shop(r *Registry) Site {
	w.t.Helper()
	st, err := r.Create(w.t.Context(), Site{Domain: shop})
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

func event(name string) Goal { return Goal{Name: name, Condition: Condition{Event: Pattern(name)}} }

func TestGoalsAndFunnels(t *testing.T) {
	w := newWorld(t)
	a, b := w.ready(w.registry()), w.ready(w.registry())
	ctx := t.Context()
	w.shop(a)
	sale := event("Purchase")
	sale.Currency = "EUR"
	sale, err := a.CreateGoal(ctx, shop, sale)
	if err != nil || sale.ID == "" || sale.Revision != 1 || sale.Created.IsZero() {
		t.Fatalf("%+v %v", sale, err)
	}
	w.soon("the other has it", func() bool {
		g, ok := b.Goal(shop, sale.ID)
		return ok && g.Currency == "EUR"
	})
	f, err := b.CreateFunnel(ctx, shop, Funnel{Name: "Buy", Strict: true, Steps: []Step{
		{Name: "Cart", Condition: Condition{Page: "/cart"}}, {Goal: sale.ID}}})
	if err != nil || f.Scope != WithinVisit {
		t.Fatalf("%+v %v", f, err)
	}
	if err := b.DeleteGoal(ctx, shop, sale.ID); !errors.Is(err, ErrInUse) ||
		!strings.Contains(err.Error(), `funnel "Buy"`) {
		t.Errorf("a goal that a funnel names: %v", err)
	}
	if _, err := b.CreateGoal(ctx, shop, event("Purchase")); !errors.Is(err, ErrExists) {
		t.Errorf("a second goal of a name: %v", err)
	}
	if _, err := b.CreateGoal(ctx, "nobody.example", event("x")); !errors.Is(err, ErrNotFound) {
		t.Errorf("of no site: %v", err)
	}
	changed, err := b.ChangeGoal(ctx, shop, sale.ID, func(g *Goal) error {
		g.ID, g.Revision, g.Created = "other", 7, time.Time{}
		g.Name = "Sale"
		return nil
	})
	if err != nil || changed.ID != sale.ID || changed.Revision != 2 || !changed.Created.Equal(sale.Created) {
		t.Errorf("%+v %v", changed, err)
	}
	refuse := errors.New("no")
	_, err = b.ChangeGoal(ctx, shop, sale.ID, func(*Goal) error { return refuse })
	if !errors.Is(err, refuse) {
		t.Errorf("an error of change: %v", err)
	}
	if _, err := b.ChangeFunnel(ctx, shop, f.ID, func(f *Funnel) error {
		f.Steps = []Step{{Condition: Condition{Page: "/"}}, {Condition: Condition{Page: "/cart"}}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := b.DeleteGoal(ctx, shop, sale.ID); err != nil {
		t.Errorf("a goal that no funnel names any more: %v", err)
	}
	if err := b.DeleteGoal(ctx, shop, sale.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("twice: %v", err)
	}
	c := w.ready(w.registry())
	if fs := c.Funnels(shop); len(fs) != 1 || len(c.Goals(shop)) != 0 || fs[0].Revision != 2 ||
		len(fs[0].Steps) != 2 || !fs[0].Strict || fs[0].Steps[0].Page != "/" {
		t.Errorf("after a restart: %+v", fs)
	}
	if err := c.DeleteFunnel(ctx, shop, f.ID); err != nil || len(c.Funnels(shop)) != 0 {
		t.Errorf("%v %+v", err, c.Funnels(shop))
	}
}

// Writers on two instances make goals at once: all of them are kept, and of one name there is one.
func TestGoalsOfTwoInstances(t *testing.T) {
	w := newWorld(t)
	a, b := w.ready(w.registry()), w.ready(w.registry())
	w.shop(a)
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	const each = 10
	var wg sync.WaitGroup
	var made, refused [2]int
	for i, r := range []*Registry{a, b} {
		wg.Go(func() {
			for n := range each {
				if _, err := r.CreateGoal(t.Context(), shop, event(fmt.Sprint("Goal ", i, n))); err != nil {
					t.Error(err)
				}
				switch _, err := r.CreateGoal(t.Context(), shop, event(fmt.Sprint("Both ", n))); {
				case err == nil:
					made[i]++
				case errors.Is(err, ErrExists):
					refused[i]++
				default:
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := a.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(a.Goals(shop)); n != 3*each || made[0]+made[1] != each || refused[0]+refused[1] != each {
		t.Errorf("%d goals; made %d, refused %d", n, made, refused)
	}
}

// A site has at most so many of each, and no more bytes than a record takes.
func TestBoundsOfGoals(t *testing.T) {
	w := newWorld(t)
	r := w.ready(w.registry())
	w.shop(r)
	ctx := t.Context()
	for i := range maxGoals {
		if _, err := r.CreateGoal(ctx, shop, event(fmt.Sprint("Goal ", i))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.CreateGoal(ctx, shop, event("more")); !errors.Is(err, ErrInvalid) ||
		!strings.Contains(err.Error(), "has 200 goals; remove one first") {
		t.Errorf("one too many: %v", err)
	}
	steps := make([]Step, 8)
	for i := range steps {
		steps[i].Condition = Condition{Page: "/", Properties: []PropertyCondition{{"k", PropertyIs,
			[]string{strings.Repeat("v", 500), strings.Repeat("w", 500), strings.Repeat("x", 500)}}}}
	}
	var err error
	for i := 0; err == nil && i < maxFunnels; i++ {
		_, err = r.CreateFunnel(ctx, shop, Funnel{Name: fmt.Sprint(i), Steps: steps})
	}
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "KB; at most 256") {
		t.Errorf("too large a record: %v", err)
	}
	if n := len(r.Funnels(shop)); n < 15 || n > 20 {
		t.Errorf("%d funnels", n)
	}
}

// What belongs to a site ends with it, also when a site of its name is made later, and leaves the topic.
func TestPartsEndWithTheirSite(t *testing.T) {
	w := newWorld(t)
	r := w.ready(w.registry())
	ctx := t.Context()
	old := w.shop(r)
	make := func() {
		t.Helper()
		for _, make := range []func() error{
			func() error { _, err := r.CreateGoal(ctx, shop, event("Signup")); return err },
			func() error { _, err := r.CreateSegment(ctx, shop, "k", german, anyFilters); return err },
			func() error { _, err := r.CreateAnnotation(ctx, shop, "k", launch); return err },
		} {
			if err := make(); err != nil {
				t.Fatal(err)
			}
		}
	}
	empty := func() bool {
		return len(r.Goals(shop))+len(r.Segments(shop, "k"))+len(r.Annotations(shop)) == 0
	}
	make()
	former := r.Annotations(shop)[0].ID
	if _, err := r.sites.update(ctx, shop, func(entry[Site]) (*Site, error) { return nil, nil }); err != nil {
		t.Fatal(err) // as an older version or a Delete that fails in between
	}
	if !empty() {
		t.Error("a site that was removed has something")
	}
	w.shop(r)
	if !empty() {
		t.Error("a site that was made again has what the former one had")
	}
	_, err := r.ChangeAnnotation(ctx, shop, former, func(*Annotation) error { return nil })
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("what the former one had is changed: %v", err)
	}
	if _, ok := r.Annotation(shop, former); ok {
		t.Error("what the former one had is found")
	}
	g := r.Goals(shop)
	make()
	if now := r.Goals(shop); len(g) != 0 || len(now) != 1 || len(r.Segments(shop, "k")) != 1 ||
		len(r.Annotations(shop)) != 1 {
		t.Errorf("%+v", now)
	}
	soon := time.Now().Add(removalLife + time.Minute)
	for _, kind := range []recordKind{r.goals, r.segments, r.annotations} {
		if ids := kind.expired(soon); len(ids) != 1 || kind.expired(time.Now()) != nil {
			t.Errorf("records that may leave the topic: %v", ids)
		}
	}
	if want := conversionsID(shop, old.Generation); r.goals.expired(soon)[0] != want {
		t.Errorf("%v, want %s", r.goals.expired(soon), want)
	}
	if err := r.Delete(ctx, shop); err != nil {
		t.Fatal(err)
	}
	for key, value := range w.newest() {
		kind, _, _ := strings.Cut(key, "/")
		left := !bytes.Contains(value, []byte(`"removed"`))
		if strings.Contains("goals segment annotation", kind) && left && !strings.Contains(key, fmt.Sprint(
			old.Generation)) {
			t.Errorf("after Delete: %s %s", key, value)
		}
	}
}

// An entry that a newer version has written is kept as it is, and counts nowhere.
func TestGoalsOfANewerVersion(t *testing.T) {
	w := newWorld(t)
	r := w.ready(w.registry())
	st := w.shop(r)
	ctx := t.Context()
	const newer = `{"id":"n1","name":"Newer","event":"Signup","audience":"new",` +
		`"created":"2026-11-30T12:00:00Z","revision":3}`
	const funnel = `{"id":"f1","name":"Newer","steps":[{"goal":"n1"},{"page":"/"}],"scope":"week",` +
		`"created":"2026-11-30T12:00:00Z","revision":1}`
	id := "goals/" + conversionsID(shop, st.Generation)
	w.produce(id, `{"revision":4,"write":"w","site":"`+shop+`","generation":`+fmt.Sprint(st.Generation)+
		`,"goals":[`+newer+`],"funnels":[`+funnel+`]}`)
	if err := r.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if len(r.Goals(shop))+len(r.Funnels(shop)) != 0 {
		t.Errorf("a goal with a condition that this version doesn't know: %+v", r.Goals(shop))
	}
	if _, err := r.CreateGoal(ctx, shop, event("Newer")); !errors.Is(err, ErrExists) {
		t.Errorf("its name is given again: %v", err)
	}
	if err := r.DeleteGoal(ctx, shop, "n1"); !errors.Is(err, ErrInUse) {
		t.Errorf("its funnel loses it: %v", err)
	}
	_, err := r.ChangeGoal(ctx, shop, "n1", func(*Goal) error { return nil })
	if !errors.Is(err, ErrInvalid) {
		t.Errorf("it is changed: %v", err)
	}
	if _, err := r.CreateGoal(ctx, shop, event("Signup")); err != nil {
		t.Fatal(err)
	}
	value := w.newest()[id]
	if !bytes.Contains(value, []byte(newer)) || !bytes.Contains(value, []byte(funnel)) ||
		!bytes.Contains(value, []byte(`"Signup"`)) {
		t.Errorf("%s", value)
	}
	if err := r.DeleteFunnel(ctx, shop, "f1"); err != nil {
		t.Error(err)
	}
}

// Fields of a site, a segment or an annotation that a newer version has written outlive a change by this one.
func TestFieldsOfANewerVersion(t *testing.T) {
	w := newWorld(t)
	r := w.registry()
	r.repairDelay = time.Millisecond // before it is ready nothing reads it
	w.ready(r)
	ctx := t.Context()
	w.produce("site/"+shop, `{"domain":"`+shop+`","timezone":"UTC","created":"2026-11-23T12:00:00Z",`+
		`"revision":3,"write":"w","generation":5,"later":{"a":["<b>",1.50]},"Also":true,"public":false}`)
	w.produce("annotation/a1", `{"revision":1,"write":"w","id":"a1","site":"`+shop+`","generation":5,`+
		`"by":"k","created":"2026-11-23T12:00:00Z","at":"2026-11-23","text":"x","color":"red"}`)
	if err := r.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		for key, want := range map[string]string{
			"site/" + shop: `"later":{"a":["<b>",1.50]}`, "annotation/a1": `"color":"red"`,
		} {
			value := w.newest()[key]
			if !json.Valid(value) || bytes.Count(value, []byte(want)) != 1 ||
				bytes.Count(value, []byte(`"generation"`)) != 1 {
				t.Errorf("%s, %s: %s", when, key, value)
			}
		}
	}
	for i := range 2 {
		change := func(s *Site) error { s.RetentionDays = 30 + i; return nil }
		if _, err := r.Change(ctx, shop, change); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ChangeAnnotation(ctx, shop, "a1", func(a *Annotation) error {
			a.Text = fmt.Sprint("y", i)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		check("after a change")
	}
	if st, _ := r.Lookup(shop); st.RetentionDays != 31 || st.Revision != 5 {
		t.Errorf("%+v", st)
	}
	w.produce("site/"+shop, `{"domain":"`+shop+`","revision":2,"write":"x"}`) // rejected
	w.soon("the record in effect is written again", func() bool {
		return bytes.Contains(w.newest()["site/"+shop], []byte(`"revision":6`))
	})
	check("after a repair")
	if err := r.Delete(ctx, shop); err != nil {
		t.Fatal(err)
	}
	if value := w.newest()["site/"+shop]; bytes.Contains(value, []byte("later")) {
		t.Errorf("a site that is removed: %s", value)
	}
	w.shop(r)
	if value := w.newest()["site/"+shop]; bytes.Contains(value, []byte("later")) {
		t.Errorf("a site that is made again: %s", value)
	}
}

// Ten thousand sites with ten goals each are read within a second of CPU time beside all else.
func TestStartWithManyGoals(t *testing.T) {
	const n = 10_000
	w := newWorld(t)
	w.fill(t, n)
	w.fillGoals(t, n, 10)
	r, cpu, stop := w.start(t)
	defer stop()
	if goals := r.Goals("site-7.example.com"); len(goals) != 10 || goals[9].Name != "Goal 9" {
		t.Errorf("%+v", goals)
	}
	limit := time.Second
	if raceDetector {
		limit *= 10
	}
	if t.Logf("%d sites and keys, %d goals: %s of CPU", n, 10*n, cpu); cpu > limit {
		t.Errorf("that took %s of CPU", cpu)
	}
}
