package series

import (
	"bytes"
	"encoding/binary"
	"unsafe"
)

// keys keeps canonical keys, each cut in two: its form, which is all but the values of labels and mostly shared by
// many, is kept once, and a text has the form's number and the values. What is no canonical key, or of one form too
// many, is kept whole.
type keys struct {
	texts slab
	forms [][]byte // their bytes never change; the first has number 1
	of    map[string]uint32
	cut   cutKey // memory to cut keys in
}

// cutKey is a key cut in two: its form, and room for the form's number with the values behind it. Strings have their
// lengths in front of them, as in keys.
type cutKey struct{ form, values []byte }

const numberSize = 2 // bytes that a form's number takes at most, as a uvarint

// maxForms bounds what forms cost that no other key shares.
const maxForms = 1 << 10

// add keeps a copy of a key.
func (k *keys) add(key []byte) slabText {
	c := &k.cut
	number := uint32(0)
	if c.split(key) {
		number = k.form(c.form)
	}
	if number == 0 {
		c.values = append(c.values[:numberSize], key...)
	}
	from := 0
	if number < 0x80 {
		from = 1 // it takes one
	}
	binary.PutUvarint(c.values[from:], uint64(number))
	return k.texts.add(c.values[from:])
}

// form returns the number of a form, 0 when there are too many.
func (k *keys) form(form []byte) uint32 {
	number, known := k.of[string(form)]
	if known || len(k.forms) == maxForms {
		return number
	}
	if k.of == nil {
		k.of = make(map[string]uint32)
	}
	text := string(form)
	k.forms = append(k.forms, unsafe.Slice(unsafe.StringData(text), len(text)))
	number = uint32(len(k.forms))
	k.of[text] = number
	return number
}

// split cuts a key, or says no to what is none.
func (c *cutKey) split(key []byte) bool {
	c.form, c.values = c.form[:0], append(c.values[:0], make([]byte, numberSize)...)
	if len(key) == 0 {
		return false
	}
	n := piece(key[1:])
	if n == 0 {
		return false
	}
	c.form, key = append(c.form, key[:1+n]...), key[1+n:]
	for len(key) > 0 {
		name := piece(key)
		value := piece(key[name:])
		if name == 0 || value == 0 {
			return false
		}
		c.form = append(c.form, key[:name]...)
		c.values = append(c.values, key[name:name+value]...)
		key = key[name+value:]
	}
	return true
}

// piece is how many bytes a string at the beginning of b takes, its length included; 0 when there is none.
func piece(b []byte) int {
	if len(b) > 0 && b[0] < 0x80 && int(b[0]) < len(b) {
		return 1 + int(b[0])
	}
	n, width := binary.Uvarint(b)
	if width <= 0 || n > uint64(len(b)-width) {
		return 0
	}
	return width + int(n)
}

// parts are the form and the values of a text. Without a form the values are the key.
func (k *keys) parts(t slabText) (form, values []byte) {
	text := k.texts.text(t)
	number, width := binary.Uvarint(text)
	if number > 0 {
		form = k.forms[number-1]
	}
	return form, text[width:]
}

// size is that of the key of a text, but for the number of its form.
func (k *keys) size(t slabText) int {
	form, _ := k.parts(t)
	return len(form) + int(t.size)
}

// equal says whether a text is that of a key.
func (k *keys) equal(t slabText, key []byte) bool {
	form, values := k.parts(t)
	if form == nil {
		return bytes.Equal(values, key)
	}
	n := 1 + piece(form[1:])
	if !bytes.HasPrefix(key, form[:n]) {
		return false
	}
	form, key = form[n:], key[n:]
	for len(form) > 0 {
		name, value := piece(form), piece(values)
		if len(key) < name+value || string(key[:name]) != string(form[:name]) ||
			string(key[name:name+value]) != string(values[:value]) {
			return false
		}
		form, values, key = form[name:], values[value:], key[name+value:]
	}
	return len(key) == 0
}

// appendKey appends the key of a text.
func (k *keys) appendKey(dst []byte, t slabText) []byte {
	form, values := k.parts(t)
	if form == nil {
		return append(dst, values...)
	}
	n := 1 + piece(form[1:])
	dst, form = append(dst, form[:n]...), form[n:]
	for len(form) > 0 {
		name, value := piece(form), piece(values)
		dst = append(append(dst, form[:name]...), values[:value]...)
		form, values = form[name:], values[value:]
	}
	return dst
}

// appendLabels appends the labels of a text whose key is canonical.
func (k *keys) appendLabels(dst Labels, t slabText) Labels {
	form, values := k.parts(t)
	if form == nil {
		return appendLabels(dst, values)
	}
	_, form = cutView(form[1:]) // the metric
	for len(form) > 0 {
		var l Label
		l.Name, form = cutView(form)
		l.Value, values = cutView(values)
		dst = append(dst, l)
	}
	return dst
}

// appendLabels appends the labels of a canonical key to dst. Their strings are bytes of key.
func appendLabels(dst Labels, key []byte) Labels {
	_, rest := cutView(key[1:]) // the metric
	for len(rest) > 0 {
		var l Label
		l.Name, rest = cutView(rest)
		l.Value, rest = cutView(rest)
		dst = append(dst, l)
	}
	return dst
}

// cutView takes the string at the beginning of b, where one is.
func cutView(b []byte) (s string, rest []byte) {
	n, width := uint64(b[0]), 1
	if n >= 0x80 {
		n, width = binary.Uvarint(b)
	}
	text := b[width : width+int(n)]
	return unsafe.String(unsafe.SliceData(text), len(text)), b[width+int(n):]
}
