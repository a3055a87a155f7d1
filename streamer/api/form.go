package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"
)

// maxFormFields bounds the fields of a form.
const maxFormFields = 20

// DecodeForm is Decode for a body that may also be a form, in either encoding. All fields of dst have to be
// strings then. As in JSON, a field that dst does not have or that is there twice is refused.
func DecodeForm(c *gin.Context, dst any) bool {
	var read func(*http.Request) (url.Values, error)
	switch c.ContentType() {
	case "application/x-www-form-urlencoded":
		read = readEncoded
	case "multipart/form-data":
		read = readMultipart
	default:
		return Decode(c, dst)
	}
	c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, maxBody)
	values, err := read(c.Request)
	if err != nil {
		Refuse(c, http.StatusBadRequest, "the form can't be read: %v", err)
		return false
	}
	fields := map[string]string{}
	for name, all := range values {
		if len(all) != 1 {
			Refuse(c, http.StatusBadRequest, "%q is there twice; give it once", shortened(name))
			return false
		}
		fields[name] = all[0]
	}
	body, err := json.Marshal(fields)
	if err != nil {
		Refuse(c, http.StatusBadRequest, "the form can't be read: %v", err)
		return false
	}
	c.Request.Body = io.NopCloser(bytes.NewReader(body))
	return Decode(c, dst)
}

func readEncoded(r *http.Request) (url.Values, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	return url.ParseQuery(string(body))
}

func readMultipart(r *http.Request) (url.Values, error) {
	form, err := r.MultipartReader()
	if err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	values := url.Values{}
	for n := 0; ; n++ {
		part, err := form.NextPart()
		switch {
		case errors.Is(err, io.EOF):
			return values, nil
		case err != nil:
			return nil, fmt.Errorf("read field: %w", err)
		case n == maxFormFields:
			return nil, fmt.Errorf("there are more than %d fields", maxFormFields)
		}
		if err := readPart(part, values); err != nil {
			return nil, err
		}
	}
}

func readPart(part *multipart.Part, values url.Values) error {
	defer func() { _ = part.Close() }()
	if part.FileName() != "" {
		return fmt.Errorf("%q is a file; give text", shortened(part.FormName()))
	}
	b, err := io.ReadAll(part)
	if err != nil {
		return fmt.Errorf("read field: %w", err)
	}
	values.Add(part.FormName(), string(b))
	return nil
}
