export default function Page() {
  return <h1>A page of the app itself</h1>;
}
