// Package dialecttest has bodies of beacons from which fuzzers start, each of another shape.
package dialecttest

// Plausible returns bodies of the Plausible Events API, valid and invalid.
func Plausible() []string {
	return []string{
		`{"n":"pageview","v":36,"u":"https://example.com/home?utm_source=news","d":"example.com",` +
			`"r":"https://ref.example/","p":{"plan":"pro"}}`,
		`{"n":"pageview","u":"https://example.com/","d":"example.com","r":null,"w":1280,"h":1,` +
			`"p":"{\"tier\":\"gold\"}"}`,
		`{"name":"Signup","url":"https://example.com/a","domain":"a,b",` +
			`"revenue":{"amount":9.99,"currency":"usd"},"id":"1"}`,
		`{"n":"engagement","sd":100,"e":613,"u":"https://example.com/#a","i":false}`,
		`{"n":404,"u":"/%zz%ff\u0000\ud800"}`,
		`{}`,
		``,
	}
}

// Umami returns bodies of Umami's send API, valid and invalid.
func Umami() []string {
	return []string{
		`{"type":"event","payload":{"website":"example.com","screen":"1x1","language":"de-CH","title":"t",` +
			`"hostname":"example.com","url":"/a?b#c","referrer":"https://x.com/"}}`,
		`{"type":"event","payload":{"website":"example.com","name":"buy","tag":"x",` +
			`"data":{"a":{"b":[1,{}],"c":null},"revenue":"1e3","currency":"EUR"},"eid":"1"}}`,
		`{"type":"identify","payload":{"website":"example.com","id":"x","data":{}}}`,
		`{"type":"event"}`,
		`{"type":"event","payload":{"website":1}}`,
		``,
	}
}
