import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.Statement;

/**
 * A client of a database, over JDBC.
 *
 * <pre>
 * Query URL SQL    prints the first column of the answer
 * </pre>
 */
public final class Query {
    public static void main(String[] arguments) throws Exception {
        try (Connection connection = DriverManager.getConnection(arguments[0]);
                Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery(arguments[1])) {
            while (rows.next()) {
                System.out.println(rows.getString(1));
            }
        }
    }
}
