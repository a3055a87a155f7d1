{{template "units"}}
