package dialect

import (
	"reflect"
	"strings"
	"testing"

	"nowcast/internal/event"
)

// The tables of package ingest send each dialect over HTTP and compare events. This file tests what they
// can't see.

func TestParsePlausible(t *testing.T) {
	b, errs := ParsePlausible(`{"n":"Buy","u":"https://www.Shop.example:8443/a?b#/c?d","d":"a.example, ` +
		`B.example",` +
		`"h":1,"i":false,"r":"https://r.example/x?q","w":"390","id":"7","$":{"amount":"1.5",` +
		`"currency":"eur"},` +
		`"p":{"k":"v"}}`)
	want := &Beacon{
		Kind: event.Custom, Name: "Buy", ID: "7", Domains: []string{"a.example", "b.example"},
		Page: Link{"https", "www.shop.example", "/a", "b", "/c?d",
			true}, Hostname: "shop.example", HashRouting: true,
		Referrer: Link{Scheme: "https", Host: "r.example", Path: "/x", Query: "q"}, ScreenWidth: 390,
		Props: event.AppendProp(nil, "k", "v"), RevenueMicros: 1_500_000, Currency: "EUR",
	}
	if errs != nil || !reflect.DeepEqual(b, want) {
		t.Errorf("%v\n got %+v\nwant %+v", errs, b, want)
	}
	if p := b.Page.Pathname(b.HashRouting); p != "/a#/c" {
		t.Errorf("path %q", p)
	}
	_, errs = ParsePlausible(`{"n":" ","u":"data:,x","id":7}`)
	wantErrs := FieldErrors{
		"url": {"scheme is not allowed"}, "event_name": {"can't be blank"}, "domain": {"can't be blank"},
		"id": {"must be a string"},
	}
	if !reflect.DeepEqual(errs, wantErrs) {
		t.Errorf("errors %v, want %v", errs, wantErrs)
	}
}

func TestParseUmami(t *testing.T) {
	b, isEvent, problem := ParseUmami(`{"type":"event","payload":{"website":"Example.com",` +
		`"hostname":"www.example.com:80","url":"/a#b","language":"de-CH,de","screen":"820x1","name":"buy",` +
		`"data":{"x":{"y":1},"revenue":2,"currency":"usd"}}}`)
	props := event.AppendProp(event.AppendProp(event.AppendProp(nil, "x.y", "1"), "revenue", "2"),
		"currency", "usd")
	want := &Beacon{
		Kind: event.Custom, Name: "buy", Domains: []string{"example.com"}, Page: Link{"", "", "/a", "", "b",
			true},
		Hostname: "example.com", HashRouting: true, Language: "de-CH", ScreenWidth: 820, Props: props,
		RevenueMicros: 2_000_000, Currency: "USD", Interactive: true,
	}
	if problem != "" || !isEvent || !reflect.DeepEqual(b, want) {
		t.Errorf("event %v, problem %q\n got %+v\nwant %+v", isEvent, problem, b, want)
	}
	for _, kind := range unstoredTypes {
		_, isEvent, problem := ParseUmami(`{"type":"` + kind + `","payload":{"website":"example.com"}}`)
		if isEvent || problem != "" {
			t.Errorf("%s: event %v, problem %q", kind, isEvent, problem)
		}
	}
}

func TestUmamiBatch(t *testing.T) {
	for _, c := range []struct {
		name, body string
		n          int // -1: refused
	}{
		{"none", `[]`, 0},
		{"two", ` [{"a":1} , {}] `, 2},
		{"as many as may be", "[" + strings.Repeat("{},", MaxBatch-1) + "{}]", MaxBatch},
		{"one more", "[" + strings.Repeat("{},", MaxBatch) + "{}]", -1},
		{"a number", `[{},1]`, -1},
		{"an object", `{}`, -1},
		{"cut off", `[{},`, -1},
		{"not UTF-8", "[{\"a\":\"\xff\"}]", -1},
	} {
		beacons, ok := UmamiBatch(c.body)
		if ok != (c.n >= 0) || ok && len(beacons) != c.n {
			t.Errorf("%s: %d beacons, valid %v, want %d", c.name, len(beacons), ok, c.n)
		}
	}
}

func TestParsePixel(t *testing.T) {
	b, errs := ParsePixel("url=https://example.com/100%&referrer=https%3A%2F%2Fr.example%2F", "")
	if errs != nil || b.Page.Path != "/100%" || b.Domains[0] != "example.com" ||
		b.Referrer.Host != "r.example" {
		t.Errorf("%+v %v", b, errs)
	}
	if _, errs = ParsePixel("site=example.com", ""); len(errs["url"]) != 1 {
		t.Errorf("neither url nor Referer: %v", errs)
	}
}
