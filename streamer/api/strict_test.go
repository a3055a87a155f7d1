package api

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
)

func TestDecode(t *testing.T) {
	gin.SetMode(gin.TestMode)
	type inner struct {
		Deep *bool `json:"deep,omitempty"`
	}
	type request struct {
		Name  string    `json:"name"`
		Inner *inner    `json:"inner,omitempty"`
		List  *[]inner  `json:"list,omitempty"`
		Names *[]string `json:"names,omitempty"`
		Local string    `json:"-"`
	}
	for _, row := range []struct{ body, want string }{
		{`{"name":"x","inner":{"deep":true},"list":[{"deep":false}],"names":["a"]}`, ""},
		{` {} `, ""},
		{`{"nam":"x"}`, `unknown field "nam"; there are inner, list, name, names`},
		{`{"NAME":"x"}`, `unknown field "NAME"`},
		{`{"Local":"x","-":1}`, `unknown fields "Local", "-"`},
		{`{"inner":{"Deep":true,"x":{"y":1}}}`, `unknown fields "inner.Deep", "inner.x"; there are deep`},
		{`{"list":[{},{"dip":1}]}`, `unknown field "list[1].dip"`},
		{`{"name":"x","n\u0061me":"y"}`, `"name" is there twice; give it once`},
		{`{"inner":{"deep":true,"deep":false}}`, `"inner.deep" is there twice`},
		{`{"x":{"a":1,"a":2}}`, `"x.a" is there twice`},
		{`{"name":null}`, `null is not allowed; leave the field out`},
		{`{"names":[null]}`, `null is not allowed`},
		{`null`, `null is not allowed`},
		{`[]`, `describes: it has to be an object, not of type array`},
		{`{"name":1}`, `describes: "name" has to be a string, not of type number`},
		{`{"names":"a"}`, `describes: "names" has to be a list, not of type string`},
		{`{"inner":{"deep":"yes"}}`, `describes: "inner.deep" has to be true or false, not of type string`},
		{`{"inner":[]}`, `describes: "inner" has to be an object, not of type array`},
		{`{"name":"x"} {}`, `the body has to be the JSON that the API describes`},
		{`{"name":"x"`, `the body has to be the JSON that the API describes`},
		{``, `the body has to be the JSON that the API describes`},
		{`{"` + strings.Repeat("x", 200) + `":1}`, `unknown field "` + strings.Repeat("x", 80) + `…"`},
		{strings.Repeat(`{"inner":`, 9000) + "1" + strings.Repeat("}", 9000), `unknown field "inner.inner"`},
	} {
		answer := httptest.NewRecorder()
		c, _ := gin.CreateTestContext(answer)
		c.Request = httptest.NewRequest("POST", "/", strings.NewReader(row.body))
		var dst request
		ok := Decode(c, &dst)
		var e Error
		_ = json.Unmarshal(answer.Body.Bytes(), &e)
		if ok != (row.want == "") || !ok && answer.Code != 400 || !strings.Contains(e.Error, row.want) {
			t.Errorf("%.100s: %t %d %.300q, want %q", row.body, ok, answer.Code, e.Error, row.want)
		}
	}
}

// What is accepted is exactly what the type can say: decoded and written again it has all of the fields.
func FuzzCheckFields(f *testing.F) {
	for _, s := range []string{
		`{"name":"x","admin":true}`, `{"NAME":1}`, `{"name":"a","name":"b"}`, `[{"a":null}]`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var dst KeyCreate
		if !json.Valid([]byte(body)) || checkFields([]byte(body), &dst) != nil {
			return
		}
		if json.Unmarshal([]byte(body), &dst) != nil {
			return
		}
		var fields, again map[string]any
		if err := json.Unmarshal([]byte(body), &fields); err != nil {
			t.Fatalf("%q was accepted and is no object", body)
		}
		written, err := json.Marshal(dst)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(written, &again); err != nil {
			t.Fatal(err)
		}
		for name := range fields {
			if _, ok := again[name]; !ok {
				t.Errorf("%q was accepted, and %q is lost", body, name)
			}
		}
	})
}
